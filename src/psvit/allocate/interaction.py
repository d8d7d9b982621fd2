"""Correct the curves by what ties cost together, and solve again.

The summed loss takes it that ties do not interact. Measured at the chosen levels they do: what a
tie adds there is the measured loss of all minus that without this tie. Each curve is scaled by
its share of that to what it predicted, and the problem is solved again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from psvit.allocate.choose import Levels
from psvit.allocate.problem import Method, Problem
from psvit.records import Removal

Measure = Callable[[Removal], float]
"""Measures a choice of channels (group id -> indices): a loss, lower is better."""

ROUNDS = 2
TIES = 12
"""Ties whose share is measured a round: the ones of the largest predicted loss."""

LIMIT = 4.0
"""A curve is scaled by this at most in a round, up or down: one measurement is no proof."""


def correct(problem: Problem, method: Method, measure: Measure, rounds: int = ROUNDS) -> Levels:
    """The levels of the lowest measured loss among the first choice and the corrected ones.

    Takes at most ``1 + rounds * (TIES + 1)`` measurements. Raises as ``method`` does.
    """
    losses = problem.known_losses("correcting for interaction")
    levels = method(problem)
    best, joint = levels, measure(problem.removal(levels))
    lowest, seen = joint, [dict(levels)]
    for _ in range(rounds):
        share = {t: float(losses.kl[t][k]) for t, k in levels.items() if k and losses.kl[t][k] > 0}
        heaviest = sorted(share, key=lambda tie: (-share[tie], tie))[:TIES]
        factors = {
            tie: _factor(joint - measure(problem.removal({**levels, tie: 0})), share[tie])
            for tie in heaviest
        }
        losses = losses.scaled(factors)
        levels = method(replace(problem, losses=losses))
        if dict(levels) in seen:
            break
        seen.append(dict(levels))
        joint = measure(problem.removal(levels))
        if joint < lowest:
            best, lowest = levels, joint
    return best


def _factor(measured: float, predicted: float) -> float:
    return min(max(measured / predicted, 1 / LIMIT), LIMIT)
