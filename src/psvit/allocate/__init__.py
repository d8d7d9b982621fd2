"""How many channels each group gives up, so that every budget is met.

A method is a function ``Problem -> Levels`` in a file of its own and an entry of ``METHODS``. It
decides how many; ``choose`` says which (the lowest scores); ``make_plan`` writes the plan. The
rungs that a tie may stand on (whole channels a cell, aligned widths) come from ``ladders``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from psvit.allocate.bounds import (
    DropLimit,
    check_bound,
    hold_bound,
    read_bound,
    smallest_within,
)
from psvit.allocate.budgets import UNITS, read_budgets
from psvit.allocate.choose import Levels, choose
from psvit.allocate.estimate import COUNTS
from psvit.allocate.events import highest
from psvit.allocate.interaction import Measure, correct, usual_plans
from psvit.allocate.ladders import Ladders, build_ladders
from psvit.allocate.optimal import optimal
from psvit.allocate.path import uniform_path
from psvit.allocate.primesvt import primesvt
from psvit.allocate.problem import Method, Problem, check_method, pose
from psvit.allocate.psvit import psvit
from psvit.allocate.uniform import uniform
from psvit.cost import Meter
from psvit.errors import OptionError
from psvit.groups import make_plan
from psvit.records import Curves, Graph, Groups, Plan, Scores

METHODS: Mapping[str, Method] = {
    "uniform": uniform,
    "psvit": psvit,
    "primesvt": primesvt,
    "optimal": optimal,
}

NEEDS_CURVES = frozenset(METHODS) - {"uniform"}
"""The methods that a sensitivity analysis guides."""

PREFERRED_SALIENCY: Mapping[str, str] = {"primesvt": "l2"}
"""How a method's authors rank channels, where they say it; l1 else."""


def check_choice(
    save: Mapping[str, float | str],
    method: str,
    max_drop: float | None = None,
    min_accuracy: float | None = None,
) -> None:
    """Raise OptionError for what can be refused before anything is analysed; see ``allocate``."""
    check_method(method, METHODS)
    read_budgets(save)
    check_bound(max_drop, min_accuracy)
    if not save and max_drop is None and min_accuracy is None:
        raise OptionError(
            "no budget was given, expected e.g. save={'memory': 0.224} or max_drop=0.01"
        )


def check_reachable(
    graph: Graph,
    groups: Groups,
    scores: Scores,
    save: Mapping[str, float | str],
    align: int = 1,
) -> None:
    """Raise BudgetError for a budget that removing all that can go misses.

    Budgets in sops, energy and latency, which need measurements, are left for ``allocate``.
    """
    known = {unit: budget for unit, budget in save.items() if unit in COUNTS}
    problem = pose(graph, groups, scores, known, align)
    problem.check_reachable(highest(problem))


def allocate(
    graph: Graph,
    groups: Groups,
    scores: Scores,
    save: Mapping[str, float | str],
    method: str = "uniform",
    align: int = 1,
    min_keep: int = 1,
    *,
    curves: Curves | None = None,
    max_drop: float | None = None,
    min_accuracy: float | None = None,
    meter: Meter | None = None,
    measure_drop: DropLimit | None = None,
    measure_loss: Measure | None = None,
    judge_loss: Measure | None = None,
) -> Plan:
    """The plan that saves at least ``save`` of each unit, by at most one step more.

    ``save``: unit (memory, params, macs, sops, energy, latency) -> what to save: a fraction in
    (0, 1), or text, "22.4%" or an amount such as "1.2MB", "300k", "5M", "20uJ", "3ms".
    ``method``: a key of ``METHODS``. ``align``: widths stay multiples of it; see
    ``psvit.allocate.ladders``.
    ``min_keep``: channels that stay in each cell. A *step* is one channel a cell in every group
    of one tie, or with ``align`` the fewest that lead to the next aligned width.

    ``curves``: the sensitivity analysis that all methods but uniform need. ``max_drop``: top-1
    that may be lost, a fraction; ``min_accuracy``: top-1 that has to stay. With one of them and
    no ``save``, the plan saves the most memory within it. ``measure_drop(removal, risk)`` says
    what top-1 is lost at most, but for that risk, on images that ``curves`` did not see: without
    it the prediction decides; see ``psvit.allocate.bounds``.
    ``measure_loss(removal)`` measures a loss: with it method "optimal" starts from the best plan of
    all methods, and corrects it for interaction. ``judge_loss(removal)`` then measures the plans to
    choose between, on images that no move was chosen on.
    ``meter``: one prepared with firing rates, which budgets in sops and energy
    need, or with times (``psvit.latency``), which one in latency needs.

    Raises OptionError for an option that means nothing or lacks what it needs, for scores that
    do not fit the groups or curves of another model; BudgetError (with what is reachable) if no
    plan of this method meets the budgets.
    """
    check_choice(save, method, max_drop, min_accuracy)
    problem = pose(graph, groups, scores, save, align, min_keep, curves, meter)
    decide = METHODS[method]
    if measure_loss is not None and method == "optimal":
        rivals = [rival for name, rival in METHODS.items() if name != method]
        decide = partial(
            correct, method=decide, measure=measure_loss, rivals=rivals, judge=judge_loss
        )
    bound = read_bound(problem.losses, max_drop, min_accuracy)
    if bound is None:
        levels = decide(problem)
    elif problem.goals:
        levels = hold_bound(problem, METHODS[method], bound, measure_drop, decide(problem))
    else:
        levels = smallest_within(problem, METHODS[method], bound, measure_drop)
    return make_plan(graph, groups, problem.removal(levels))


__all__ = [
    "METHODS",
    "NEEDS_CURVES",
    "PREFERRED_SALIENCY",
    "UNITS",
    "DropLimit",
    "Ladders",
    "Levels",
    "Measure",
    "Method",
    "Problem",
    "allocate",
    "build_ladders",
    "check_choice",
    "check_reachable",
    "choose",
    "pose",
    "read_budgets",
    "uniform_path",
    "usual_plans",
]
