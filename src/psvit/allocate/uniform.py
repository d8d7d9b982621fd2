"""Uniform channel-wise filter pruning: every group gives up the same fraction of its channels.

The first step of PSViT (Putra et al., "PSViT", arXiv 2606.03257). Its abstract says "uniform
channel-wise filter pruning" and no more; that every prunable group takes part, that the count
is rounded per cell, and how the budget is met exactly are our reading.
"""

from __future__ import annotations

from collections.abc import Sequence

from psvit.allocate.choose import Levels
from psvit.allocate.problem import Problem

Event = tuple[int, int]
"""(tie, rung): from now on this tie stands on this rung."""


def uniform(problem: Problem) -> Levels:
    """The fewest removals, in the order of ``events``, that meet every goal.

    Each prefix of the events is a uniform plan, and each event saves: so the first prefix that
    meets the goals is found by bisection, and the plan without its last event misses one.
    Raises BudgetError, with what is reachable, if all events together miss a goal.
    """
    order = events(problem)
    problem.check_reachable(levels_after(order))
    low, high = 0, len(order)
    while low < high:
        middle = (low + high) // 2
        if problem.meets(levels_after(order[:middle])):
            high = middle
        else:
            low = middle + 1
    return levels_after(order[:low])


def events(problem: Problem) -> list[Event]:
    """Every step of every tie, sorted by the fraction of a cell that is gone after it.

    After any prefix that ends with fraction f, each tie stands on its highest rung of at most f
    (ties of equal fraction in the order of their ids), which is what makes the plan uniform.
    """
    ladders = problem.ladders
    steps = [
        (rung / ladders.cell[tie], tie, rung)
        for tie, rungs in ladders.rungs.items()
        for rung in rungs[1:]
    ]
    return [(tie, rung) for _, tie, rung in sorted(steps)]


def levels_after(order: Sequence[Event]) -> dict[int, int]:
    """Where each tie stands after these events; later events override earlier ones."""
    return dict(order)
