"""Methods that prune step by step, and stop as soon as every goal is met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from psvit.allocate.problem import Problem

Event = tuple[int, int]
"""(tie, rung): from now on this tie stands on this rung."""


def levels_after(order: Sequence[Event]) -> dict[int, int]:
    """Where each tie stands after these events; later events override earlier ones."""
    return dict(order)


def first_that_meets(problem: Problem, order: Sequence[Event]) -> dict[int, int]:
    """The levels after the fewest of these events that meet every goal.

    Each event has to raise its tie. So each saves, the first prefix that meets the goals is
    found by bisection, and the one before it misses one. Raises BudgetError, with what is
    reachable, if all events together miss a goal.
    """
    problem.check_reachable(levels_after(order))
    low, high = 0, len(order)
    while low < high:
        middle = (low + high) // 2
        if problem.meets(levels_after(order[:middle])):
            high = middle
        else:
            low = middle + 1
    return levels_after(order[:low])


def climb(problem: Problem, tie: int, start: int, end: int) -> list[Event]:
    """The events that lift a tie from above level ``start`` to at most level ``end``."""
    return [(tie, rung) for rung in problem.ladders.rungs[tie] if start < rung <= end]


def highest(problem: Problem) -> dict[int, int]:
    """Every tie on its highest rung."""
    return {tie: rungs[-1] for tie, rungs in problem.ladders.rungs.items() if len(rungs) > 1}


def memory_of_ties(problem: Problem) -> Mapping[int, float]:
    """Fraction of the model's memory that each tie alone can save, largest first."""
    alone = {t: problem.saved({t: rung})["memory"] for t, rung in highest(problem).items()}
    return dict(sorted(alone.items(), key=lambda item: (-item[1], item[0])))
