"""What the sensitivity curves predict that a choice of levels costs: the sum over its ties.

Each measured curve is repaired to rise (isotonic regression: pruning more is never better, noise
aside), is 0 for the dense model, and runs straight from one measured ratio to the next. Beyond
the last one it goes on at the steepest slope seen, as nothing was measured there: a layer that
hardly matters may be cut until it fails, and its curve does not know. That guess, and that losses
add up, are assumptions; ``psvit.allocate.interaction`` corrects both by measuring.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from psvit.allocate.choose import Levels
from psvit.allocate.ladders import Ladders
from psvit.errors import OptionError
from psvit.records import Curves, Groups, IntArray, Point

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Losses:
    """``kl[tie][level]``: predicted KL in nats an image with ``level`` channels a cell gone.

    ``drop[tie][level]``: predicted loss of top-1, a fraction; None if the curves have no labels.
    ``dense_accuracy``: top-1 of the whole model on the images of the curves, or None.
    ``known_to[tie]``: the last level that was measured; beyond it the curve is a guess.
    """

    kl: Mapping[int, FloatArray]
    drop: Mapping[int, FloatArray] | None
    dense_accuracy: float | None
    known_to: Mapping[int, int]

    def predict(self, levels: Levels) -> float:
        """The summed KL, in nats an image."""
        return float(sum(self.kl[tie][level] for tie, level in levels.items() if level))

    def predict_drop(self, levels: Levels) -> float | None:
        """The summed loss of top-1, a fraction; None if the curves have no labels."""
        if self.drop is None:
            return None
        return float(sum(self.drop[tie][level] for tie, level in levels.items() if level))

    def measured(self, tie: int, level: int, kl: float) -> Losses:
        """The same with the KL of a level beyond those known: up to it the curve runs straight."""
        last, curve = self.known_to[tie], self.kl[tie]
        if level <= last:
            raise ValueError(f"level {level} of tie {tie} is known: its curve reaches to {last}")
        at = np.array([*range(last + 1), level])
        values = np.array([*curve[: last + 1], max(kl, float(curve[last]))])
        return replace(
            self,
            kl={**self.kl, tie: _drawn(at, values, len(curve) - 1)},
            known_to={**self.known_to, tie: level},
        )

    def scaled(self, factors: Mapping[int, float]) -> Losses:
        """The same with the KL of some ties multiplied."""
        return replace(self, kl={t: kl * factors.get(t, 1.0) for t, kl in self.kl.items()})


def read_losses(curves: Curves, groups: Groups, ladders: Ladders) -> Losses:
    """The repaired curves at every level of every tie that can be pruned.

    Raises OptionError if a tie has no curve, or a measured loss is not a number.
    """
    points: dict[int, list[Point]] = defaultdict(list)
    for point in curves.points:
        points[point.tie].append(point)
    ties = [tie for tie, rungs in ladders.rungs.items() if len(rungs) > 1]
    missing = [g.name for g in groups if g.tie in set(ties) - set(points)]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise OptionError(
            f"the sensitivity analysis has no curve for {missing[0]}{more}: run it again on this "
            "model"
        )
    labelled = all(p.accuracy_drop is not None for tie in ties for p in points[tie])
    cells = ladders.cell
    return Losses(
        kl={t: _curve(t, {p.removed: p.kl for p in points[t]}, cells[t]) for t in ties},
        drop={
            t: _curve(t, {p.removed: p.accuracy_drop or 0.0 for p in points[t]}, cells[t])
            for t in ties
        }
        if labelled
        else None,
        dense_accuracy=curves.dense.accuracy,
        known_to={t: min(max(p.removed for p in points[t]), cells[t]) for t in ties},
    )


def _curve(tie: int, measured: Mapping[int, float], cell: int) -> FloatArray:
    """The loss at each of the levels 0 ... ``cell``."""
    at = np.array(sorted(level for level in measured if level > 0))
    values = np.array([measured[level] for level in at], dtype=np.float64)
    if not len(at) or not np.isfinite(values).all():
        raise OptionError(
            f"the sensitivity curve of tie {tie} is {values.tolist()}, expected a number for each "
            "ratio: run the analysis again"
        )
    rising = np.maximum(isotonic_regression(values).x, 0.0)
    return _drawn(np.concatenate([[0], at]), np.concatenate([[0.0], rising]), cell)


def _drawn(at: IntArray, values: FloatArray, cell: int) -> FloatArray:
    """Straight from one level to the next, and beyond the last at the steepest slope seen."""
    levels = np.arange(cell + 1)
    steepest = (np.diff(values) / np.diff(at)).max()
    beyond = steepest * np.maximum(levels - at[-1], 0)
    curve: FloatArray = np.interp(levels, at, values) + beyond
    return curve
