"""What a comparison comes to: each result beside the dense model, its control, and the best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psvit.compare.cells import Cell
from psvit.evaluate import paired_drop

SAVED = {
    "memory": "memory_bytes",
    "params": "params",
    "macs": "macs",
    "sops": "sops",
    "energy": "energy_pj",
}
"""Unit -> its figure."""


@dataclass(frozen=True)
class Comparison:
    """Methods at the same budgets on the same images.

    ``cells``: by budget, then method. ``dense``: the model before pruning; ``control``: it after
    the same recovery, None without one. ``analysis_s``: wall time of the sensitivity analysis that
    the guided methods share; None: there was none, or it was cut short and went on.
    ``left_out``: in words, what could not be compared.
    """

    fingerprint: str
    settings: Mapping[str, Any]
    dense: Cell
    control: Cell | None
    cells: tuple[Cell, ...]
    analysis_s: float | None = None
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Difference:
    """Accuracy lost on the same images, a fraction, with its 95 % interval; below 0: gained."""

    drop: float
    low: float
    high: float


@dataclass(frozen=True)
class Verdict:
    """A cell judged: ``saved`` by unit, what it ``lost`` against the dense model, against the
    control, and how far it lies ``behind`` the best smaller model at its budget (None: it is it).
    """

    cell: Cell
    saved: Mapping[str, float]
    lost: Difference
    lost_to_control: Difference | None
    behind: Difference | None


def verdicts(comparison: Comparison) -> tuple[Verdict, ...]:
    """Every cell judged, in the order of the cells.

    Intervals are of one difference each. The best is found on the same images as it is judged on,
    so among methods that hardly differ "best" may be chance: the interval says so.
    """
    best = best_cells(comparison)
    found = []
    for cell in comparison.cells:
        ahead = best.get(tuple(cell.budget.items()))
        found.append(
            Verdict(
                cell=cell,
                saved=saved_by(cell, comparison.dense),
                lost=difference(comparison.dense, cell),
                lost_to_control=None
                if comparison.control is None
                else difference(comparison.control, cell),
                behind=None if ahead is None or ahead is cell else difference(ahead, cell),
            )
        )
    return tuple(found)


def best_cells(comparison: Comparison) -> dict[tuple[Any, ...], Cell]:
    """Budget -> the smaller model of the highest accuracy; the first of equals. Masks never."""
    best: dict[tuple[Any, ...], Cell] = {}
    for cell in comparison.cells:
        key = tuple(cell.budget.items())
        if cell.zeroed is None and (key not in best or _accuracy(cell) > _accuracy(best[key])):
            best[key] = cell
    return best


def difference(first: Cell, second: Cell) -> Difference:
    """What the second loses against the first."""
    return Difference(*paired_drop(first.hits(), second.hits()))


def saved_by(cell: Cell, dense: Cell) -> dict[str, float]:
    """Unit -> share saved, of every unit that both figures have."""
    saved = {}
    for unit, name in SAVED.items():
        before, after = getattr(dense.figures, name), getattr(cell.figures, name)
        if before is not None and after is not None:
            saved[unit] = 1 - after / max(before, 1)
    return saved


def _accuracy(cell: Cell) -> float:
    return cell.figures.accuracy or 0.0
