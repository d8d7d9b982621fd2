"""A comparison as a table for a terminal of 80 columns: a block for each budget."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from rich import box
from rich.table import Table

from psvit.compare.levels import Budget, budget_text
from psvit.compare.verdicts import Comparison, Difference, Verdict, difference, verdicts
from psvit.report.units import percent_text, seconds_text


def comparison_table(comparison: Comparison) -> Table:
    """Accuracy, what is lost with its 95 % interval, and how far behind the best, by budget."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, highlight=False, show_edge=False)
    table.add_column("method", no_wrap=True)
    for title in ("saved", "accuracy", "points lost", "behind", "time"):
        table.add_column(title, justify="right", no_wrap=True)
    dense, control = comparison.dense, comparison.control
    table.add_row("dense", "", _accuracy(dense.figures.accuracy), "", "", "")
    if control is not None:
        lost = _points(difference(dense, control))
        accuracy = _accuracy(control.figures.accuracy)
        table.add_row(control.method, "", accuracy, lost, "", seconds_text(control.seconds))
    for budget, found in by_budget(comparison):
        table.add_section()
        table.add_row(budget_text(budget), *[""] * 5, style="bold")
        for verdict in found:
            table.add_row(*_row(verdict))
    return table


def by_budget(comparison: Comparison) -> Iterator[tuple[Budget, list[Verdict]]]:
    """The verdicts of each budget."""
    for _, found in groupby(verdicts(comparison), key=lambda v: tuple(v.cell.budget.items())):
        same = list(found)
        yield same[0].cell.budget, same


def notes(comparison: Comparison) -> list[str]:
    """What has to be said beside the table."""
    n = comparison.dense.figures.n or 0
    beside = "the dense model" if comparison.control is None else f"'{comparison.control.method}'"
    lines = [
        f"{n:,} images; points lost against {beside}, paired on the same images, with the 95 % "
        "interval; behind: points below the best, * where the interval of that excludes 0"
    ]
    if any(cell.zeroed is not None for cell in comparison.cells):
        lines.append(
            "unstructured: masks set that share of the weights to zero; the model keeps its size, "
            "and memory is saved only if it is stored sparse"
        )
    if comparison.analysis_s is not None:
        lines.append(
            f"time: ranking, choosing, cutting, recovery; the sensitivity analysis that the guided "
            f"methods share took {seconds_text(comparison.analysis_s)} more"
        )
    return [*lines, *comparison.left_out]


def _row(verdict: Verdict) -> tuple[str, ...]:
    cell = verdict.cell
    lost = verdict.lost if verdict.lost_to_control is None else verdict.lost_to_control
    saved = percent_text(verdict.saved[next(iter(cell.budget))])
    return (
        cell.method,
        saved if cell.zeroed is None else "masks",
        _accuracy(cell.figures.accuracy),
        _points(lost),
        _behind(verdict),
        seconds_text(cell.seconds),
    )


def _behind(verdict: Verdict) -> str:
    """`best`, `0.3`, or `5.2 *` where the difference is more than chance."""
    behind = verdict.behind
    if behind is None:
        return "best" if verdict.cell.zeroed is None else ""
    return f"{_fixed(100 * behind.drop)} {' ' if behind.low <= 0 <= behind.high else '*'}"


def _accuracy(accuracy: float | None) -> str:
    return percent_text(accuracy or 0.0)


def _points(difference: Difference) -> str:
    """`1.2 (0.3 to 2.1)`."""
    drop, low, high = (_fixed(100 * d) for d in (difference.drop, difference.low, difference.high))
    return f"{drop} ({low} to {high})"


def _fixed(points: float) -> str:
    text = f"{points:.1f}"
    return "0.0" if text == "-0.0" else text
