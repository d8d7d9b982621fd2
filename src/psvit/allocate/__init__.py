"""How many channels each group gives up, so that every budget is met.

A method is a function ``Problem -> Levels`` in a file of its own and an entry of ``METHODS``. It
decides how many; ``choose`` says which (the lowest scores); ``make_plan`` writes the plan. The
rungs that a tie may stand on (whole channels a cell, aligned widths) come from ``ladders``.
"""

from __future__ import annotations

from collections.abc import Mapping

from psvit.allocate.choose import Levels, choose
from psvit.allocate.ladders import Ladders, build_ladders
from psvit.allocate.problem import UNITS, Method, Problem, check_goals, check_method, pose
from psvit.allocate.uniform import uniform
from psvit.groups import make_plan
from psvit.records import Graph, Groups, Plan, Scores

METHODS: Mapping[str, Method] = {"uniform": uniform}


def allocate(
    graph: Graph,
    groups: Groups,
    scores: Scores,
    save: Mapping[str, float],
    method: str = "uniform",
    align: int = 1,
    min_keep: int = 1,
) -> Plan:
    """The plan that saves at least ``save`` of each unit, by at most one step more.

    ``save``: unit (memory, params, macs) -> fraction to save, in (0, 1). ``method``: a key of
    ``METHODS``. ``align``: widths stay multiples of it; see ``psvit.allocate.ladders``.
    ``min_keep``: channels that stay in each cell. A *step* is one channel a cell in every group
    of one tie, or with ``align`` the fewest that lead to the next aligned width.

    Raises OptionError for a unit, fraction, method, ``align`` or ``min_keep`` that means nothing
    or scores that do not fit the groups, BudgetError (with the reachable maximum) if no plan
    of this method meets the budget.
    """
    check_method(method, METHODS)
    goals = check_goals(save)
    problem = pose(graph, groups, scores, goals, align=align, min_keep=min_keep)
    levels = METHODS[method](problem)
    return make_plan(graph, groups, problem.removal(levels))


__all__ = [
    "METHODS",
    "UNITS",
    "Ladders",
    "Levels",
    "Method",
    "Problem",
    "allocate",
    "build_ladders",
    "choose",
    "pose",
]
