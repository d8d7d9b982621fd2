"""Plans next to a plan: more of one tie, and as much less of another as the goals allow."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import permutations

from psvit.allocate.choose import Levels
from psvit.allocate.polish import trim
from psvit.allocate.problem import Problem

PARTS = (1.0, 0.5)
"""How much more is taken of a tie, as parts of the radius."""


def swaps(
    problem: Problem, levels: Levels, ties: Sequence[int], radius: float
) -> Iterator[tuple[int, dict[int, int]]]:
    """The tie that gives up more, and a plan that meets every goal; least predicted loss first.

    Each takes ``radius`` (a share of its smallest cell), or half as much, more of one of ``ties``,
    and less of another. What is left over goes to the ties whose loss it lowers most.
    """
    losses = problem.known_losses("swapping")
    found = []
    for more, less in permutations(ties, 2):
        for part in PARTS:
            plan = _swap(problem, levels, more, less, radius * part)
            if plan is not None:
                found.append((losses.predict(plan), more, less, part, plan))
    for _, more, *_, plan in sorted(found, key=lambda entry: entry[:-1]):
        yield more, trim(problem, plan)


def _swap(
    problem: Problem, levels: Levels, more: int, less: int, radius: float
) -> dict[int, int] | None:
    """``more`` up, ``less`` down as far as it may; None if one of them cannot move."""
    rungs, cell = problem.ladders.rungs[more], problem.ladders.cell[more]
    now, step = levels.get(more, 0), max(1, round(radius * cell))
    up = max((rung for rung in rungs if now < rung <= now + step), default=None)
    if up is None:
        return None
    raised = {**levels, more: up}
    below = [rung for rung in problem.ladders.rungs[less] if rung < levels.get(less, 0)]
    least = bisect_left(below, True, key=lambda rung: problem.meets({**raised, less: rung}))
    return {**raised, less: below[least]} if least < len(below) else None
