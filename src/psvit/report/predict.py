"""The loss that a plan should cost, from what each tie costs alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np
from scipy.optimize import isotonic_regression

from psvit.records import Curves, Point


def loss_unit(curves: Curves) -> str:
    """`points` if every point has an accuracy, else `nats` of KL divergence."""
    return "nats" if any(p.accuracy_drop is None for p in curves.points) else "points"


def predicted_loss(curves: Curves, levels: Mapping[int, float]) -> float | None:
    """The losses of each tie at its level, added up, as ``psvit.allocate`` adds them.

    ``levels``: tie -> channels that each cell gives up. Measured curves are made to rise, noise
    aside, and run straight in between. None where a tie gives up more than was measured, and
    where the sum exceeds all the accuracy there is: drawing a guess would look like knowing.
    """
    unit = loss_unit(curves)
    points: dict[int, list[Point]] = defaultdict(list)
    for point in curves.points:
        points[point.tie].append(point)
    total = 0.0
    for tie, level in levels.items():
        if level <= 0:
            continue
        losses = {
            p.removed: (p.accuracy_drop or 0.0) if unit == "points" else p.kl for p in points[tie]
        }
        at = sorted(losses)
        if not at or level > at[-1]:
            return None
        rising = np.maximum(isotonic_regression([losses[removed] for removed in at]).x, 0.0)
        total += float(np.interp(level, [0, *at], [0.0, *rising]))
    most = curves.dense.accuracy
    return None if unit == "points" and most is not None and total > most else total
