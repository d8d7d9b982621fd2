"""PSViT: prune the large layers alike, then the insensitive ones further, large ones first.

Putra et al., "PSViT", arXiv 2606.03257. What is stated: uniform pruning of the large layers,
then extra pruning of the weakly sensitive ones, guided by a profile of sensitivity x memory, the
layers of large memory first, without retraining in between. No code is published.

Our reading, in numbers: the *large* layers are the fewest, largest first, that together hold
half of the memory that can be pruned. The uniform step goes on until half of each budget is met.
The second step takes every layer as far as its sensitivity (predicted KL) stays within a band,
the largest memory first; then the next band, of twice the sensitivity, until the budget is met.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from psvit.allocate.choose import Levels
from psvit.allocate.events import (
    Event,
    climb,
    first_that_meets,
    highest,
    levels_after,
    memory_of_ties,
)
from psvit.allocate.problem import Problem
from psvit.allocate.uniform import events

LARGE_SHARE = 0.5
"""Share of the prunable memory that the large layers hold."""

UNIFORM_SHARE = 0.5
"""Share of each budget that the uniform step is to meet."""

INSENSITIVE = 1e-4
"""KL in nats an image of the first band: less is not told from none."""


def psvit(problem: Problem) -> Levels:
    """The levels of PSViT. Raises OptionError without curves, BudgetError out of reach."""
    problem.known_losses("method 'psvit'")
    problem.check_reachable(highest(problem))
    memory = memory_of_ties(problem)
    first = _uniform_step(problem, memory)
    stands = levels_after(first)
    second = [
        event
        for _, _, tie, rung in sorted(_banded(problem, list(memory)))
        for event in climb(problem, tie, max(stands.get(tie, 0), rung - 1), rung)
    ]
    return first_that_meets(problem, [*first, *second])


def _uniform_step(problem: Problem, memory: Mapping[int, float]) -> list[Event]:
    """The events of the uniform step, up to its share of the budget if that is reachable."""
    order = events(problem, large_ties(memory))
    goals = {unit: UNIFORM_SHARE * goal for unit, goal in problem.goals.items()}
    part = replace(problem, goals=goals)
    if not part.meets(levels_after(order)):
        return order
    levels = first_that_meets(part, order)
    return [(tie, rung) for tie, rung in order if rung <= levels.get(tie, 0)]


def large_ties(memory: Mapping[int, float]) -> set[int]:
    """The fewest ties, largest first, that hold LARGE_SHARE of the memory of all."""
    large: set[int] = set()
    held, wanted = 0.0, LARGE_SHARE * sum(memory.values())
    for tie, amount in sorted(memory.items(), key=lambda item: (-item[1], item[0])):
        if held >= wanted:
            break
        large.add(tie)
        held += amount
    return large


def _banded(problem: Problem, by_memory: list[int]) -> list[tuple[int, int, int, int]]:
    """(band, place by memory, tie, rung) of every rung."""
    losses = problem.known_losses("method 'psvit'")
    return [
        (_band(float(losses.kl[tie][rung])), place, tie, rung)
        for place, tie in enumerate(by_memory)
        for rung in problem.ladders.rungs[tie][1:]
    ]


def _band(kl: float) -> int:
    return 0 if kl <= INSENSITIVE else math.ceil(math.log2(kl / INSENSITIVE))
