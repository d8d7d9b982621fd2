"""Uniform channel-wise filter pruning: every group gives up the same fraction of its channels.

The first step of PSViT (Putra et al., "PSViT", arXiv 2606.03257). Its abstract says "uniform
channel-wise filter pruning" and no more; that every prunable group takes part, that the count
is rounded per cell, and how the budget is met exactly are our reading.
"""

from __future__ import annotations

from collections.abc import Collection

from psvit.allocate.choose import Levels
from psvit.allocate.events import Event, first_that_meets
from psvit.allocate.events import levels_after as levels_after
from psvit.allocate.problem import Problem


def uniform(problem: Problem) -> Levels:
    """The fewest removals, in the order of ``events``, that meet every goal.

    Each prefix of the events is a uniform plan. Raises BudgetError, with what is reachable, if
    all events together miss a goal.
    """
    return first_that_meets(problem, events(problem))


def events(problem: Problem, ties: Collection[int] | None = None) -> list[Event]:
    """Every step of these ties (of all without them), by the fraction of a cell gone after it.

    After any prefix that ends with fraction f, each tie stands on its highest rung of at most f
    (ties of equal fraction in the order of their ids), which is what makes the plan uniform.
    """
    ladders = problem.ladders
    steps = [
        (rung / ladders.cell[tie], tie, rung)
        for tie, rungs in ladders.rungs.items()
        if ties is None or tie in ties
        for rung in rungs[1:]
    ]
    return [(tie, rung) for _, tie, rung in sorted(steps)]
