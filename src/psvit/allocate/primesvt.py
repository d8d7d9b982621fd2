"""PrimeSVT: each layer, the largest first, gets the ratio with the best accuracy x memory gain.

"PrimeSVT", arXiv 2606.03428. What is stated: channels are ranked by L2; layers are pruned from
large to small at rates of their own; a B-score, accuracy x memory gain, picks what to prune; a
choice is gated by the constraints, a limit on accuracy and one on memory. No code is published.

Our reading: the accuracy of a candidate is the measured top-1 with that layer alone pruned (with
label-free curves exp(-KL) stands in for accuracy left over dense accuracy), its gain is the
memory that the layer alone saves. A layer's gate is one limit on its own loss, the same for all:
the lowest with which the budgets can be met, so that no limit has to be guessed; a limit on the
whole model's accuracy (``max_drop``) comes on top. If the best scores of all layers leave a
budget unmet, the layers go on, largest first, past their best score.
"""

from __future__ import annotations

import math

import numpy as np

from psvit.allocate.choose import Levels
from psvit.allocate.estimate import alone_saved
from psvit.allocate.events import Event, climb, first_that_meets, highest, memory_of_ties
from psvit.allocate.losses import FloatArray
from psvit.allocate.problem import Problem


def primesvt(problem: Problem) -> Levels:
    """The levels of PrimeSVT. Raises OptionError without curves, BudgetError out of reach."""
    problem.check_reachable(highest(problem))
    kept = accuracy_kept(problem)
    memory = memory_of_ties(problem)
    gain = {
        tie: {rung: float(saved[rung]) for rung in candidates(problem, tie)}
        for tie, saved in ((tie, alone_saved(problem, tie, "memory")) for tie in memory)
    }

    def best(gate: float) -> dict[int, int]:
        """Each layer's level of the highest B-score among those that lose at most ``gate``."""
        return {
            tie: max(
                (r for r in gain[tie] if 1 - kept[tie][r] <= gate),
                key=lambda r: (kept[tie][r] * gain[tie][r], r),
                default=0,
            )
            for tie in memory
        }

    gates = sorted({float(1 - kept[tie][rung]) for tie in memory for rung in gain[tie]})
    low, high = 0, len(gates) - 1
    while low < high:
        middle = (low + high) // 2
        if problem.meets(best(gates[middle])):
            high = middle
        else:
            low = middle + 1
    chosen = best(gates[low]) if gates else {}
    order = [event for tie in memory for event in climb(problem, tie, 0, chosen[tie])]
    return first_that_meets(problem, [*order, *_beyond(problem, list(memory), chosen)])


def candidates(problem: Problem, tie: int) -> list[int]:
    """About ten rungs of a tie, spread evenly, the highest among them."""
    rungs = problem.ladders.rungs[tie][1:]
    count = min(10, len(rungs))
    return [rungs[math.ceil((i + 1) * len(rungs) / count) - 1] for i in range(count)]


def accuracy_kept(problem: Problem) -> dict[int, FloatArray]:
    """By tie and level the share of the model's accuracy that is left, by the curves."""
    losses = problem.known_losses("method 'primesvt'")
    dense = losses.dense_accuracy
    if losses.drop is None or not dense:
        return {tie: np.exp(-kl) for tie, kl in losses.kl.items()}
    return {tie: (1 - drop / dense).clip(min=0.0) for tie, drop in losses.drop.items()}


def _beyond(problem: Problem, by_memory: list[int], chosen: Levels) -> list[Event]:
    most = highest(problem)
    return [event for t in by_memory for event in climb(problem, t, chosen[t], most[t])]
