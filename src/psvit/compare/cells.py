"""One method at one budget, and what came out of it: the piece of work that is done once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import torch

from psvit.compare.levels import Budget
from psvit.evaluate import pack, unpack, wilson
from psvit.journal import Kind
from psvit.records import Figures

DENSE = "dense"
"""The model before pruning."""
CONTROL = "dense, recovered"
"""The model before pruning, after the same recovery as the pruned ones."""


@dataclass(frozen=True)
class Cell:
    """``method`` at ``budget``: what is left, and which evaluation images it gets right.

    ``right``: a bit an image, as hexadecimal text, for paired differences. ``zeroed``: weights
    that masks set to zero, of a model that keeps its size; None for smaller models. ``seconds``:
    wall time of ranking, choosing, cutting and recovering, without the analysis that is shared.
    """

    method: str
    budget: Budget
    figures: Figures
    right: str
    zeroed: int | None = None
    seconds: float = field(default=0.0, compare=False)

    def hits(self) -> torch.Tensor:
        """Which images it classifies correctly, bool ``[n]``."""
        assert self.figures.n is not None
        return unpack(self.right, self.figures.n)


def judged(
    method: str,
    budget: Budget,
    figures: Figures,
    right: torch.Tensor,
    seconds: float,
    zeroed: int | None = None,
) -> Cell:
    """A cell with the accuracy that ``right`` (bool ``[n]``) comes to."""
    n, correct = len(right), int(right.sum())
    low, high = wilson(correct, n)
    figures = replace(figures, accuracy=correct / n, accuracy_low=low, accuracy_high=high, n=n)
    return Cell(method, dict(budget), figures, pack(right), zeroed, seconds)


def cell_to(cell: Cell) -> dict[str, Any]:
    """A cell as JSON data."""
    return {**vars(cell), "budget": dict(cell.budget), "figures": asdict(cell.figures)}


def cell_from(data: Mapping[str, Any]) -> Cell:
    """A cell from JSON data. Raises ValueError, KeyError or TypeError if it is none."""
    names = {f.name for f in fields(Cell)}
    if set(data) != names:
        raise ValueError(f"expected the fields {', '.join(sorted(names))}")
    cell = Cell(**{**data, "figures": Figures(**data["figures"]), "budget": dict(data["budget"])})
    n = cell.figures.n
    if type(n) is not int or n < 1 or len(bytes.fromhex(cell.right)) != -(-n // 8):
        raise ValueError(f"which of {n!r} images are right is told of another number")
    if int(cell.hits().sum()) != round((cell.figures.accuracy or 0.0) * n):
        raise ValueError("the accuracy is not that of the images that are right")
    return cell


def cell_key(method: str, budget: Budget) -> tuple[str, tuple[tuple[str, float | str], ...]]:
    """What tells a cell from every other."""
    return method, tuple(budget.items())


CELLS: Kind[Cell] = Kind(
    mark="psvit_compare_journal",
    version=1,
    job="comparison",
    pieces="results",
    key=lambda cell: cell_key(cell.method, cell.budget),
    write=cell_to,
    read=cell_from,
    hashes={
        "weights": "the weights of the model differ",
        "images": "the training images or labels differ (or come in another order)",
        "evaluation": "the evaluation images or labels differ (or come in another order)",
        "curves": "the sensitivity analysis differs",
    },
)
