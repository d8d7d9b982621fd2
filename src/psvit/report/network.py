"""The network as a picture: a bar a group, block by block, each channel a sliver of its bar."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from psvit.report.data import GroupRow, ReportData
from psvit.report.html import escape, section
from psvit.report.units import bytes_text, count_text, percent_text, plural, points_text

STREAM = "residual stream"
MOST_SLIVERS = 24_000
"""A page that draws more channels than this, one by one, would be slow and large."""

KINDS = {"qk": "qk", "v": "v", STREAM: "stream"}
"""Role -> the class that colours it; every other role is drawn as hidden."""


def network_section(data: ReportData) -> str:
    """Bars as wide as the groups, solid where channels stay."""
    if not data.groups:
        return ""
    widest = max(g.before for g in data.groups)
    rows = sorted(enumerate(data.groups), key=lambda row: row[1].role != STREAM)
    blocks = [
        _block(name, list(members), widest, drawn_one_by_one(data))
        for name, members in groupby(rows, key=lambda row: block_of(row[1]))
    ]
    roles = dict.fromkeys(g.role for g in data.groups)
    legend = "".join(
        f'<li class="{KINDS.get(role, "hidden")}"><i></i>{escape(role)}</li>' for role in roles
    )
    note = "Solid slivers are channels that stay, pale ones are gone. "
    if not drawn_one_by_one(data):
        note = "The solid part of a bar stays, the pale part is gone. "
    if any(g.heads for g in data.groups):
        note += "Gaps divide attention heads, which stay equally wide. "
    changed = sum(g.after < g.before for g in data.groups)
    body = (
        f"<p>{plural(len(data.groups), 'group')} of channels from input to output, of which "
        f"{changed} became narrower. {note}Bars are to scale: the widest group has "
        f"{plural(widest, 'channel')}.</p>"
        f'<ul class="legend" aria-label="Roles">{legend}</ul>'
        f'<ol class="network">{"".join(blocks)}</ol>'
    )
    return section("network", "Network", body)


def drawn_one_by_one(data: ReportData) -> bool:
    """Whether bars show which channels go, and not only how many."""
    return sum(g.before for g in data.groups) <= MOST_SLIVERS


def slider(data: ReportData) -> str:
    """The slider and the figures that follow it, as they are for this folder's plan."""
    if not data.path:
        return ""
    at = next((i for i, step in enumerate(data.path) if step.this), 0)
    step = data.path[at]
    last = max(len(data.path) - 1, 1)
    figures = [
        ("memory", bytes_text(round(data.before.memory_bytes * (1 - step.saved["memory"])))),
        ("params", count_text(round(data.before.params * (1 - step.saved["params"])))),
        ("macs", count_text(round(data.before.macs * (1 - step.saved["macs"])))),
        ("channels", channels_left(data, step.widths)),
    ]
    names = {
        "memory": "memory", "params": "parameters", "macs": "MACs", "channels": "channels",
        "loss": "predicted loss",
    }  # fmt: skip
    if any(s.loss is not None for s in data.path):
        figures.append(("loss", loss_text(step.loss, data.loss_unit)))
    terms = "".join(
        f'<div><dt>{names[key]}</dt><dd data-figure="{key}">{escape(text)}</dd></div>'
        for key, text in figures
    )
    return (
        '<div class="control" hidden><div class="row"><label for="slider">memory saved</label>'
        f'<output for="slider" data-figure="saved">{percent_text(step.saved["memory"])}</output>'
        f'<div class="rail" style="--at:{at / last:.4f}"><input type="range" id="slider" min="0" '
        f'max="{last}" step="1" value="{at}" data-this="{at}"></div>'
        f'<button type="button" id="reset" disabled>this model</button></div>'
        f'<dl class="live" aria-live="polite">{terms}</dl></div>'
    )


def loss_text(loss: float | None, unit: str) -> str:
    """A predicted loss in its unit; a dash where it is not known."""
    if loss is None:
        return "–"
    return points_text(loss) if unit == "points" else f"{loss:.3g} nats"


def channels_left(data: ReportData, widths: Sequence[int]) -> str:
    """`639 of 730`."""
    return f"{sum(widths):,} of {sum(g.before for g in data.groups):,}"


def block_of(group: GroupRow) -> str:
    """The part of the network that a group belongs to: `blocks.0` of `blocks.0.mlp.fc1`."""
    if group.role == STREAM:
        return STREAM
    parts = group.name.split(".")
    for i, part in enumerate(parts[:-1]):
        if part.isdigit():
            return ".".join(parts[: i + 1])
    return parts[0]


def group_text(group: GroupRow) -> str:
    """What hovering over a bar tells."""
    heads = f", {plural(group.heads, 'head')}" if group.heads else ""
    kept = percent_text(group.after / max(group.before, 1))
    lock = f"; locked: {group.locked}" if group.locked else ""
    return (
        f"{group.name} ({group.role}{heads}): {group.before:,} → {group.after:,} channels, "
        f"{kept} kept{lock}"
    )


def _block(name: str, members: list[tuple[int, GroupRow]], widest: int, slivers: bool) -> str:
    rows = "".join(_row(name, i, group, widest, slivers) for i, group in members)
    return f'<li class="block"><h3>{escape(name)}</h3><ol>{rows}</ol></li>'


def _row(block: str, index: int, group: GroupRow, widest: int, slivers: bool) -> str:
    kind = KINDS.get(group.role, "hidden")
    label = group.name.removeprefix(block).lstrip(".") or group.name
    heads = f' <span class="heads">{plural(group.heads, "head")}</span>' if group.heads else ""
    lock = ' <span class="lock">locked</span>' if group.locked else ""
    return (
        f'<li class="group {kind}{" locked" if group.locked else ""}" data-group="{index}">'
        f'<div class="name"><code>{escape(label)}</code> <span class="role">'
        f"{escape(group.role)}</span>{heads}{lock}</div>"
        f'<div class="bar" tabindex="0" role="img" data-tip="{escape(group_text(group))}" '
        f'aria-label="{escape(group_text(group))}" style="--part:'
        f'{100 * group.before / widest:.2f}%">{_slivers(group, slivers)}</div>'
        f'<div class="count"><b>{group.after:,}</b> of {group.before:,}</div></li>'
    )


def spacing(group: GroupRow) -> tuple[int, int]:
    """Channels between two gaps, and how many channels wide a gap is: heads stand apart."""
    size = max(group.before, 1)
    if group.heads < 2 or group.heads != group.cells or size % group.heads or not group.in_order:
        return size, 0
    each = size // group.heads
    return each, max(1, round(0.12 * each))


def _slivers(group: GroupRow, slivers: bool) -> str:
    """An SVG as wide as the bar: a unit a channel."""
    each, gap = spacing(group)
    size = max(group.before, 1)
    kept: Iterable[int] = range(group.after)
    if slivers and group.removed is not None and len(group.removed) == group.before - group.after:
        gone = set(group.removed)
        kept = (c for c in range(group.before) if c not in gone)
    return (
        f'<svg viewBox="0 0 {size + gap * (size // each - 1)} 1" preserveAspectRatio="none" '
        f'aria-hidden="true"><path class="all" d="{_runs(range(size), each, gap)}"/>'
        f'<path class="kept" d="{_runs(kept, each, gap)}"/></svg>'
    )


def _runs(channels: Iterable[int], each: int, gap: int) -> str:
    """One stroke a run of neighbours in the same head: `M0 .5`, `h` draws and `m` skips."""
    path, end = "M0 .5", 0
    places = (channel + gap * (channel // each) for channel in channels)
    for _, run in groupby(enumerate(places), key=lambda pair: pair[1] - pair[0]):
        members = [place for _, place in run]
        skip = f"m{members[0] - end} 0" if members[0] > end else ""
        path += f"{skip}h{len(members)}"
        end = members[0] + len(members)
    return path
