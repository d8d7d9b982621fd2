"""What an allocation method works on: the rungs, the budgets, the prices and the losses."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from psvit.allocate.budgets import UNITS, Budget, Share, read_budgets
from psvit.allocate.choose import Levels, rank, take
from psvit.allocate.ladders import Ladders, build_ladders
from psvit.allocate.losses import Losses, read_losses
from psvit.cost import Meter, prepare
from psvit.errors import BudgetError, OptionError
from psvit.groups import fingerprint
from psvit.records import Curves, Figures, Graph, Groups, IntArray, Scores


@dataclass(frozen=True, eq=False)
class Problem:
    """Goals to meet by standing each tie on a rung of its ladder.

    ``goals``: unit -> fraction to save, above 0. ``ranking``: group id -> each cell's channels,
    least important first. ``before``: figures of the whole model. ``losses``: what the
    sensitivity analysis predicts; None without one. ``prices``: savings already looked up.
    """

    groups: Groups
    ladders: Ladders
    goals: Mapping[str, float]
    ranking: Mapping[int, tuple[IntArray, ...]]
    meter: Meter
    before: Figures
    losses: Losses | None = None
    prices: dict[frozenset[tuple[int, int]], dict[str, float]] = field(default_factory=dict)

    def removal(self, levels: Levels) -> dict[int, list[int]]:
        """The channels that go at these levels."""
        return take(self.ranking, self.groups, levels)

    def saved(self, levels: Levels) -> dict[str, float]:
        """Fraction of each unit that these levels save; units without a figure are left out."""
        key = frozenset((tie, level) for tie, level in levels.items() if level)
        if key not in self.prices:
            after = self.meter.measure(self.removal(levels))
            figures = {u: (figure(self.before), figure(after)) for u, figure in UNITS.items()}
            self.prices[key] = {
                unit: (whole - left) / max(whole, 1)
                for unit, (whole, left) in figures.items()
                if whole is not None and left is not None
            }
        return self.prices[key]

    def meets(self, levels: Levels) -> bool:
        """Whether every goal is met."""
        saved = self.saved(levels)
        return all(saved[unit] >= goal for unit, goal in self.goals.items())

    def check_reachable(self, most: Levels) -> None:
        """Raise BudgetError for the first goal that even ``most`` misses."""
        saved = self.saved(most)
        for unit, goal in self.goals.items():
            if saved[unit] < goal:
                count = len(self.ladders.left)
                left = f"; {count} group{'s have' if count > 1 else ' has'} no aligned width"
                raise BudgetError(
                    f"cannot save {goal:.2%} of {unit}: at most {floor_percent(saved[unit])} is "
                    f"reachable with these groups{self._in_ms(unit, saved[unit])}"
                    f"{left if count else ''}; ask for less"
                )

    def _in_ms(self, unit: str, share: float) -> str:
        whole = self.before.latency_ms
        if unit != "latency" or whole is None:
            return ""
        return f" ({share * whole:.3g} of {whole:.3g} ms)"

    def known_losses(self, why: str) -> Losses:
        """The losses. Raises OptionError, naming who asked, if no analysis was given."""
        if self.losses is None:
            raise OptionError(
                f"{why} needs a sensitivity analysis: give curves=psvit.sensitivity(...), or "
                "--data or --sensitivity FILE on the command line"
            )
        return self.losses


Method = Callable[[Problem], Levels]
"""Decides how many channels a cell each tie gives up. Raises BudgetError if it cannot."""


def pose(
    graph: Graph,
    groups: Groups,
    scores: Scores,
    goals: Mapping[str, float | str],
    align: int = 1,
    min_keep: int = 1,
    curves: Curves | None = None,
    meter: Meter | None = None,
) -> Problem:
    """Read everything that a method needs, once. Raises OptionError as ``allocate`` does.

    ``meter``: one that was prepared with firing rates, for budgets in sops or energy,
    or with times (``psvit.latency``), for one in latency.
    """
    budgets = read_budgets(goals)
    ladders = build_ladders(graph, groups, align, min_keep)
    meter = meter or prepare(graph, groups)
    ranking = {g.id: rank(g, scores) for g in groups if g.tie in ladders.rungs}
    before = meter.measure({})
    fractions = {unit: _fraction(unit, budget, before) for unit, budget in budgets.items()}
    losses = None
    if curves is not None:
        _check_same_model(graph, curves)
        losses = read_losses(curves, groups, ladders)
    return Problem(groups, ladders, fractions, ranking, meter, before, losses)


def _fraction(unit: str, budget: Budget, before: Figures) -> float:
    whole = UNITS[unit](before)
    if whole is None and unit == "latency":
        raise OptionError(
            "a budget in latency needs times measured on this machine: give a meter made by "
            "psvit.latency.with_latency"
        )
    if whole is None:
        raise OptionError(
            f"a budget in {unit} needs the firing rates of the model: give data to measure them on"
        )
    if isinstance(budget, Share):
        return budget.fraction
    if budget.figure >= whole:
        raise BudgetError(
            f"cannot save {budget.text} of {unit}: the whole model has {_number(whole)} "
            f"({budget.text} is {_number(budget.figure)}); ask for less"
        )
    return budget.figure / whole


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _check_same_model(graph: Graph, curves: Curves) -> None:
    if curves.fingerprint != fingerprint(graph):
        raise OptionError(
            f"the sensitivity analysis belongs to another model (fingerprint {curves.fingerprint}, "
            f"this model has {fingerprint(graph)}): run it on this model"
        )


def check_method(method: str, known: Mapping[str, Method]) -> None:
    """Raise OptionError for a method that is not in the table."""
    if method not in known:
        raise OptionError(
            f"no allocation method is called {method!r}, expected one of {', '.join(known)}"
        )


def floor_percent(fraction: float) -> str:
    """A percentage that is never above ``fraction``: asking for it succeeds."""
    hundredths = math.floor(fraction * 10_000)  # the product may be rounded up to the next one
    hundredths -= hundredths / 100 / 100 > fraction
    return f"{hundredths / 100:.2f}%"
