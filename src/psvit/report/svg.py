"""A chart as a picture of its own, for documents: the data that the page's script draws.

It follows the light or dark of the system, and asks for nothing.
"""

from __future__ import annotations

import math
from typing import Any

from psvit.report.html import escape

WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, TOP, BOTTOM = 56, 20, 40, 56
LINE = 22
"""Height of a line of the key."""

STYLE = """
text{font:13px system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
fill:#5c646c}
.paper{fill:#fcfbf9}.grid{stroke:#e2dfd9}.reference{stroke:#5c646c;stroke-dasharray:3 4}
.line{fill:none;stroke-width:1.75}.whisker{stroke-width:1.25;opacity:.55}
.s0{--c:#1d5d8c}.s1{--c:#b0562b}.s2{--c:#23796d}.s3{--c:#7d5296}
.s4{--c:#8a7420}.s5{--c:#5c646c}.s6{--c:#a8406a}.s7{--c:#3f7f3a}
.stroke{stroke:var(--c)}.fill{fill:var(--c)}
@media (prefers-color-scheme:dark){text{fill:#9ba3ab}.paper{fill:#15181b}.grid{stroke:#2f353b}
.reference{stroke:#9ba3ab}.s0{--c:#82b8df}.s1{--c:#e19a70}.s2{--c:#68bfb0}.s3{--c:#c09bd8}
.s4{--c:#d0bb62}.s5{--c:#9ba3ab}.s6{--c:#e58fb2}.s7{--c:#8fc98a}}
"""


def chart_svg(chart: dict[str, Any]) -> str:
    """The picture of a chart: ``caption``, ``x`` and ``y`` (titles), ``reference``, ``series``.

    A series has a ``name`` and ``points`` (``x``, ``y`` and perhaps ``low`` and ``high``); with
    ``scatter`` no line joins them. ``log``: both axes are logarithmic.
    """
    points = [p for series in chart["series"] for p in series["points"]]
    log = bool(chart.get("log"))
    across = _Axis([p["x"] for p in points], LEFT, WIDTH - RIGHT, log, zero=True)
    ys = [value for p in points for value in (p["y"], p.get("low", p["y"]), p.get("high", p["y"]))]
    if chart.get("reference") is not None:
        ys.append(chart["reference"])
    up = _Axis(ys, HEIGHT - BOTTOM, TOP, log, zero=chart.get("reference") is None)
    parts = [_grid(chart, across, up), _marks(chart, across, up)]
    key, rows = _key(chart)
    height = HEIGHT + LINE * rows
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img" aria-label="{escape(chart["caption"])}"><style>{STYLE}'
        f'</style><rect class="paper" width="{WIDTH}" height="{height}"/>{"".join(parts)}{key}'
        "</svg>\n"
    )


class _Axis:
    """From values to places, with round ticks."""

    def __init__(
        self, values: list[float], start: float, end: float, log: bool, *, zero: bool
    ) -> None:
        self._log = log
        self._start, self._end = start, end
        if log:
            positive = [v for v in values if v > 0] or [1.0]
            low, high = math.log10(min(positive)), math.log10(max(positive))
            first, last = math.floor(low), max(math.ceil(high), math.floor(low) + 1)
            self._low, self._high = float(first), float(last)
            self.ticks = [10.0**i for i in range(first, last + 1)]
            return
        low, high = min([*values, *[0.0] * zero]), max([*values, *[0.0] * zero])
        step = _step((high - low) / 6 or 1.0)
        self._low, self._high = math.floor(low / step) * step, math.ceil(high / step) * step
        if self._high == self._low:
            self._high += step
        count = round((self._high - self._low) / step)
        self.ticks = [round(self._low + i * step, 10) for i in range(count + 1)]

    def __call__(self, value: float) -> float:
        at = math.log10(max(value, 10**self._low)) if self._log else value
        share = (at - self._low) / (self._high - self._low)
        return round(self._start + share * (self._end - self._start), 1)


def _step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))


def _grid(chart: dict[str, Any], across: _Axis, up: _Axis) -> str:
    parts = [f'<text x="{LEFT - 40}" y="20">{escape(chart["y"])}</text>']
    for tick in up.ticks:
        y = up(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{tick:g}</text>')
    for tick in across.ticks:
        x, y = across(tick), HEIGHT - BOTTOM + 20
        parts.append(f'<text x="{x}" y="{y}" text-anchor="middle">{tick:g}</text>')
    x, y = WIDTH - RIGHT, HEIGHT - BOTTOM + 42
    parts.append(f'<text x="{x}" y="{y}" text-anchor="end">{escape(chart["x"])}</text>')
    if chart.get("reference") is not None:
        y = up(chart["reference"])
        parts.append(
            f'<line class="reference" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
        )
    return "".join(parts)


def _marks(chart: dict[str, Any], across: _Axis, up: _Axis) -> str:
    parts, middle = [], (len(chart["series"]) - 1) / 2
    for i, series in enumerate(chart["series"]):
        aside = chart.get("dodge", 0) * (i - middle)
        places = [(round(across(p["x"]) + aside, 1), p) for p in series["points"]]
        parts.append(f'<g class="s{series.get("colour", i) % 8}">')
        if not series.get("scatter"):
            line = "L".join(f"{x} {up(p['y'])}" for x, p in places)
            parts.append(f'<path class="line stroke" d="M{line}"/>')
        for x, p in places:
            if "low" in p:
                ends = f'y1="{up(p["low"])}" y2="{up(p["high"])}"'
                parts.append(f'<line class="whisker stroke" x1="{x}" x2="{x}" {ends}/>')
            tip = f"<title>{escape(p['tip'])}</title>" if "tip" in p else ""
            parts.append(f'<circle class="fill" cx="{x}" cy="{up(p["y"])}" r="4">{tip}</circle>')
        parts.append("</g>")
    return "".join(parts)


def _key(chart: dict[str, Any]) -> tuple[str, int]:
    """The names of the series, from left to right and line by line; and the number of lines."""
    names = [(s["name"], f"s{s.get('colour', i) % 8}") for i, s in enumerate(chart["series"])]
    if len(names) < 2:
        return "", 0
    if chart.get("reference") is not None:
        names.append(("unpruned", ""))
    parts, x, row = [], LEFT, 0
    for name, colour in names:
        width = 34 + 7.5 * len(name)
        if x + width > WIDTH - RIGHT:
            x, row = LEFT, row + 1
        y = HEIGHT + LINE * row
        line = f'x1="{x}" x2="{x + 16}" y1="{y}" y2="{y}" stroke-width="2"'
        kind = "stroke" if colour else "reference"
        parts.append(
            f'<g class="{colour}"><line class="{kind}" {line}/></g>'
            f'<text x="{x + 22}" y="{y + 4}">{escape(name)}</text>'
        )
        x += int(width)
    return "".join(parts), row + 1
