"""Tables for a terminal: each function takes figures and gives a rich table, nothing is printed.

They fit 80 columns: long names fold, numbers never do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table

from psvit.records import Figures, Group, Width
from psvit.report.units import bytes_text, change_text, count_text, energy_text, percent_text

TOP5 = "  top-5 accuracy"
SOPS = "SOPs an image, spike-driven"
ENERGY = "energy an image, 45 nm convention"


@dataclass(frozen=True)
class Saving:
    """Bytes that a group saves alone: by one channel a cell, and by all but one a cell."""

    group: Group
    step_bytes: int
    most_bytes: int


def figures_table(before: Figures, after: Figures, latency_note: str = "") -> Table:
    """What a model costs and how well it does, before and after."""
    table = _table()
    table.add_column("")
    for title in ("before", "after", "change"):
        table.add_column(title, justify="right", no_wrap=True)
    if before.accuracy is not None and after.accuracy is not None:
        table.add_row(
            f"accuracy on {after.n:,} images",
            percent_text(before.accuracy),
            percent_text(after.accuracy),
            f"{100 * (after.accuracy - before.accuracy):+.1f} points",
        )
        table.add_row("  95 % interval", interval_text(before), interval_text(after), "")
    if before.top5 is not None and after.top5 is not None:
        table.add_row(
            TOP5,
            percent_text(before.top5),
            percent_text(after.top5),
            f"{100 * (after.top5 - before.top5):+.1f} points",
        )
        table.add_row("  95 % interval", top5_interval_text(before), top5_interval_text(after), "")
    for name, old, new, text in (
        ("memory", before.memory_bytes, after.memory_bytes, bytes_text),
        ("parameters", before.params, after.params, count_text),
        ("MACs an image, dense", before.macs, after.macs, count_text),
    ):
        table.add_row(name, text(old), text(new), change_text(old, new))
    if before.sops is not None and after.sops is not None:
        sops = [count_text(round(value)) for value in (before.sops, after.sops)]
        table.add_row(SOPS, *sops, change_text(before.sops, after.sops))
    if before.energy_pj is not None and after.energy_pj is not None:
        energies = [energy_text(value) for value in (before.energy_pj, after.energy_pj)]
        table.add_row(ENERGY, *energies, change_text(before.energy_pj, after.energy_pj))
    if before.latency_ms is not None and after.latency_ms is not None:
        table.add_row(
            f"latency{latency_note}",
            f"{before.latency_ms:.1f} ms",
            f"{after.latency_ms:.1f} ms",
            change_text(before.latency_ms, after.latency_ms),
        )
    return table


def figure_table(figures: Figures, latency_note: str = "") -> Table:
    """The same for one model."""
    table = _table()
    table.show_header = False
    table.add_column()
    table.add_column(justify="right", no_wrap=True)
    if figures.accuracy is not None:
        table.add_row(f"accuracy on {figures.n:,} images", percent_text(figures.accuracy))
        table.add_row("  95 % interval", interval_text(figures))
    if figures.top5 is not None:
        table.add_row(TOP5, percent_text(figures.top5))
        table.add_row("  95 % interval", top5_interval_text(figures))
    table.add_row("memory", bytes_text(figures.memory_bytes))
    table.add_row("parameters", count_text(figures.params))
    if figures.macs:
        table.add_row("MACs an image, dense", count_text(figures.macs))
    if figures.sops is not None:
        table.add_row(SOPS, count_text(round(figures.sops)))
    if figures.energy_pj is not None:
        table.add_row(ENERGY, energy_text(figures.energy_pj))
    if figures.latency_ms is not None:
        table.add_row(f"latency{latency_note}", f"{figures.latency_ms:.1f} ms")
    return table


def interval_text(figures: Figures) -> str:
    """`97.0-99.4 %`; empty if accuracy was not measured."""
    return _interval(figures.accuracy_low, figures.accuracy_high)


def top5_interval_text(figures: Figures) -> str:
    """The same of top-5 accuracy."""
    return _interval(figures.top5_low, figures.top5_high)


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{100 * low:.1f}-{100 * high:.1f} %"


def widths_table(widths: Iterable[Width]) -> Table:
    """Every group's number of channels before and after."""
    table = _table()
    table.add_column("group", overflow="fold")
    table.add_column("role", overflow="fold")
    for title in ("before", "after", "kept"):
        table.add_column(title, justify="right", no_wrap=True)
    for width in widths:
        kept = percent_text(width.after / max(width.before, 1))
        table.add_row(width.name, width.role, str(width.before), str(width.after), kept)
    return table


def recovery_table(recovery: Mapping[str, Any]) -> Table:
    """The steps of recovery auto, from what metrics.json says of it."""
    table = _table()
    table.add_column("recovery")
    for title in (f"KL on {recovery['held_out']:,} held out", "after", "kept", "seconds"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in recovery_rows(recovery):
        table.add_row(*row)
    return table


def recovery_rows(recovery: Mapping[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """Step, KL divergence before and after, whether it was kept, seconds."""
    return [
        (
            one["step"] + (", then bn" if one["bn"] and one["step"] != "bn" else ""),
            f"{one['kl_before']:.4f}",
            f"{one['kl_after']:.4f}",
            "yes" if one["kept"] else "no",
            f"{one['seconds']:.1f}",
        )
        for one in recovery["steps"]
    ]


def savings_table(savings: Iterable[Saving]) -> Table:
    """The groups that can be pruned, and what each would save."""
    table = _table()
    table.add_column("group", overflow="fold")
    table.add_column("role", overflow="fold")
    for title in ("channels", "one step", "at most"):
        table.add_column(title, justify="right", no_wrap=True)
    for saving in savings:
        group = saving.group
        table.add_row(
            group.name,
            group.role,
            channels_text(group),
            bytes_text(saving.step_bytes),
            bytes_text(saving.most_bytes),
        )
    return table


def locked_table(groups: Iterable[Group]) -> Table:
    """The groups that stay whole, and why."""
    table = _table()
    table.add_column("group", overflow="fold", ratio=2)
    table.add_column("channels", justify="right", no_wrap=True)
    table.add_column("why it stays", overflow="fold", ratio=3)
    for group in groups:
        table.add_row(group.name, str(group.size), group.locked or "a single channel a cell")
    return table


def names_table(rows: Iterable[tuple[str, str]], titles: tuple[str, str]) -> Table:
    """Two columns of text."""
    table = _table()
    table.add_column(titles[0], no_wrap=True)
    table.add_column(titles[1], overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def channels_text(group: Group) -> str:
    """`64`, or `4 x 16` where four cells of 16 give up the same number each."""
    if len(group.cells) == 1:
        return str(group.size)
    return f"{len(group.cells)} x {len(group.cells[0])}"


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, highlight=False, show_edge=False)
