"""An analysis as tables for a terminal of 80 columns."""

from __future__ import annotations

from collections import defaultdict
from statistics import mean

from rich import box
from rich.table import Table

from psvit.records import Curves, Point
from psvit.report.units import bytes_text
from psvit.sensitivity.blocks import by_block, nearest, ratios_of

MOST_RATIOS = 4
"""Columns of ratios that fit; of a longer grid the first, the last, and some between."""


def block_table(curves: Curves) -> Table:
    """The blocks: summed KL divergence at some ratios; what the last one costs and saves."""
    ratios = shown_ratios(curves)
    table = _table("block", ratios, curves)
    for block in by_block(curves):
        last = ratios[-1]
        table.add_row(
            block.name,
            *(kl_text(block.kl[ratio]) for ratio in ratios),
            *_drop_cells(curves, block.accuracy_drop[last]),
            bytes_text(int(block.saved[last].get("memory", 0))),
        )
    return table


def layer_table(curves: Curves) -> Table:
    """The same for the groups that are pruned together, one by one."""
    ratios = shown_ratios(curves)
    table = _table("pruned alone", ratios, curves)
    points: dict[int, list[Point]] = defaultdict(list)
    for point in curves.points:
        points[point.tie].append(point)
    for tie, own in points.items():
        last = nearest(own, ratios[-1])
        table.add_row(
            curves.names[tie],
            *(kl_text(nearest(own, ratio).kl) for ratio in ratios),
            *_drop_cells(curves, last.accuracy_drop),
            bytes_text(int(last.saved.get("memory", 0))),
        )
    return table


def seen_text(curves: Curves) -> str:
    """On how many images the points were measured: `16 to 128 images a point, 47 on average`."""
    counts = [point.n for point in curves.points]
    if min(counts) == max(counts):
        return f"{counts[0]:,} images a point"
    return f"{min(counts):,} to {max(counts):,} images a point, {mean(counts):,.0f} on average"


def shown_ratios(curves: Curves) -> list[float]:
    """The ratios that have a column."""
    ratios = ratios_of(curves)
    if len(ratios) <= MOST_RATIOS:
        return ratios
    steps = range(MOST_RATIOS)
    return [ratios[round(i * (len(ratios) - 1) / (MOST_RATIOS - 1))] for i in steps]


def kl_text(kl: float) -> str:
    """`0.00123` -> `0.0012`, `1.234` -> `1.23`; what is below a ten-thousandth as `<.0001`."""
    if kl == 0:
        return "0"
    if kl < 1e-4:
        return "<.0001"
    return f"{kl:.4f}" if kl < 1 else f"{kl:.2f}"


def _table(title: str, ratios: list[float], curves: Curves) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, highlight=False, show_edge=False)
    table.add_column(title, overflow="fold")
    for ratio in ratios:
        table.add_column(f"{100 * ratio:g} %", justify="right", no_wrap=True)
    if curves.dense.accuracy is not None:
        table.add_column("points lost", justify="right", no_wrap=True)
    table.add_column("saved", justify="right", no_wrap=True)
    return table


def _drop_cells(curves: Curves, drop: float | None) -> list[str]:
    if curves.dense.accuracy is None:
        return []
    return ["" if drop is None else f"{100 * drop:+.1f}"]
