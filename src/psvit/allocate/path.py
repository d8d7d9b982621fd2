"""Uniform plans from the whole model to the smallest, for people who ask "what if".

Nothing is run and nothing is cut: each plan is priced from shapes, so a path costs about as much
as meeting a few budgets.
"""

from __future__ import annotations

import numpy as np

from psvit.allocate.problem import Problem, pose
from psvit.allocate.uniform import events, levels_after
from psvit.records import BudgetPath, Graph, Groups, Scores, Step

STEPS = 40


def uniform_path(
    graph: Graph, groups: Groups, scores: Scores, align: int = 1, steps: int = STEPS
) -> BudgetPath:
    """About ``steps`` uniform plans by rising saving, the first of which removes nothing.

    They are spread evenly over the memory saved, up to what can be reached. Raises OptionError
    for an ``align`` that means nothing and for scores that do not fit the groups.
    """
    problem = pose(graph, groups, scores, {}, align=align)
    taken: dict[tuple[int, ...], Step] = {}
    for levels in _spread(problem, steps):
        removal = problem.removal(levels)
        widths = tuple(g.size - len(removal.get(g.id, ())) for g in groups)
        if widths not in taken:
            taken[widths] = Step(problem.saved(levels), widths)
    order = tuple(_order(problem, group.id, group.size) for group in groups)
    return BudgetPath(
        tuple(sorted(taken.values(), key=lambda step: (step.saved["memory"], step.saved["macs"]))),
        order,
    )


def _spread(problem: Problem, steps: int) -> list[dict[int, int]]:
    """Levels at prefixes of the uniform order, chosen so that the memory saved is spread evenly.

    Most parameters lie between two groups, so a share f of every group leaves about (1 - f)^2 of
    the memory: that guess is close enough, and saves searching.
    """
    order = events(problem)
    shares = [rung / problem.ladders.cell[tie] for tie, rung in order]
    most = 1 - (1 - max(shares, default=0.0)) ** 2
    wanted = 1 - np.sqrt(1 - np.linspace(0, most, steps + 1))
    counts = np.searchsorted(shares, wanted + 1e-9, side="right").tolist()
    return [levels_after(order[:count]) for count in (0, *counts)]


def _order(problem: Problem, group: int, size: int) -> tuple[int, ...]:
    """For each channel, how many of its cell go before it; empty where none can go."""
    if group not in problem.ranking:
        return ()
    order = np.zeros(size, dtype=np.int64)
    for cell in problem.ranking[group]:
        order[cell] = np.arange(len(cell))
    return tuple(order.tolist())
