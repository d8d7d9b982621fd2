"""The top of the page: what was saved, and what it cost."""

from __future__ import annotations

from psvit.records import Figures
from psvit.report.data import ReportData
from psvit.report.figures import figure_rows
from psvit.report.html import escape, section, signs, table
from psvit.report.tables import interval_text
from psvit.report.units import bytes_text, change_text, count_text, percent_text, points_text


def headline_section(data: ReportData) -> str:
    """The sentence, the large figures, the interval and the whole table."""
    rows = [
        (
            escape(row.name) + (f'<span class="note">{escape(row.note)}</span>' * bool(row.note)),
            signs(escape(row.before)) + _small(row.intervals[0]),
            f"<b>{signs(escape(row.after))}</b>" + _small(row.intervals[1]),
            signs(escape(row.change)),
            _share(row.share),
        )
        for row in figure_rows(data.before, data.after)
    ]
    body = (
        f'<p class="lede">{_sentence(data.before, data.after)}</p>'
        + _large(data.before, data.after)
        + table(("", "before", "after", "change", "after / before"), rows, kind="figures")
        + _interval(data.before, data.after)
    )
    return section("result", "Result", body)


def _small(interval: str) -> str:
    return f'<span class="note">{signs(escape(interval))}</span>' if interval else ""


def _sentence(before: Figures, after: Figures) -> str:
    saved = percent_text(1 - after.memory_bytes / max(before.memory_bytes, 1))
    if before.accuracy is None or after.accuracy is None:
        return f"Pruning saves {saved} of the memory. Accuracy was not measured."
    change = after.accuracy - before.accuracy
    if round(1000 * change) == 0:
        cost = "and leaves the accuracy as it was"
    elif change < 0:
        cost = f"and costs {points_text(-change)} of accuracy"
    else:
        cost = f"and gains {points_text(change)} of accuracy"
    return f"Pruning saves {saved} of the memory {cost}, on {after.n:,} images."


def _large(before: Figures, after: Figures) -> str:
    figures = [
        (
            "Memory",
            change_text(before.memory_bytes, after.memory_bytes),
            f"{bytes_text(before.memory_bytes)} → {bytes_text(after.memory_bytes)}",
        )
    ]
    if before.accuracy is not None and after.accuracy is not None:
        figures.append(
            (
                "Accuracy",
                percent_text(after.accuracy),
                f"from {percent_text(before.accuracy)}; 95 % interval {interval_text(after)}",
            )
        )
    if before.macs:
        figures.append(
            (
                "MACs an image",
                change_text(before.macs, after.macs),
                f"{count_text(before.macs)} → {count_text(after.macs)}",
            )
        )
    return '<div class="large">' + "".join(
        f"<div><span>{escape(name)}</span><strong>{signs(escape(value))}</strong>"
        f"<small>{signs(escape(note))}</small></div>"
        for name, value, note in figures
    ) + "</div>"  # fmt: skip


def _share(share: float | None) -> str:
    """A bar as long as what is left; more than before fills it."""
    if share is None:
        return ""
    return f'<span class="share" style="--part:{100 * min(share, 1):.1f}%"></span>'


def _interval(before: Figures, after: Figures) -> str:
    """Both accuracies with their intervals on one axis."""
    lows = [f.accuracy_low for f in (before, after) if f.accuracy_low is not None]
    highs = [f.accuracy_high for f in (before, after) if f.accuracy_high is not None]
    if len(lows) < 2 or len(highs) < 2:
        return ""
    start, end = _axis(min(lows), max(highs))

    def at(value: float | None) -> str:
        return f"{100 * ((value or 0.0) - start) / (end - start):.2f}%"

    lines = "".join(
        f'<div class="whisker {kind}"><span>{kind}</span><div class="track"><i style="'
        f"--low:{at(f.accuracy_low)};--high:{at(f.accuracy_high)};--mid:{at(f.accuracy)}"
        f'"></i></div><span class="value">{percent_text(f.accuracy or 0.0)}</span></div>'
        for kind, f in (("before", before), ("after", after))
    )
    return (
        '<figure class="interval"><figcaption>Accuracy with its 95 % Wilson interval, '
        f"n = {after.n:,}</figcaption>{lines}"
        f'<div class="whisker axis" aria-hidden="true"><span></span><div class="track">'
        f"<span>{percent_text(start, 0)}</span><span>{percent_text(end, 0)}</span></div>"
        '<span class="value"></span></div></figure>'
    )


def _axis(low: float, high: float) -> tuple[float, float]:
    """Tenths around both, and at least a tenth wide."""
    start = int(10 * low) / 10
    end = min(1.0, -int(-10 * high // 1) / 10)
    return (start, end) if end > start else (start - 0.1 if start >= 0.1 else 0.0, start + 0.1)
