"""What an allocation method works on: the rungs, the budgets, and a fast way to price a choice."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

from psvit.allocate.choose import Levels, rank, take
from psvit.allocate.ladders import Ladders, build_ladders
from psvit.cost import Meter, prepare
from psvit.errors import BudgetError, OptionError
from psvit.records import Figures, Graph, Groups, IntArray, Scores

UNITS: Mapping[str, Callable[[Figures], int]] = {
    "memory": lambda figures: figures.memory_bytes,
    "params": lambda figures: figures.params,
    "macs": lambda figures: figures.macs,
}
"""Unit of a budget -> its figure."""


@dataclass(frozen=True, eq=False)
class Problem:
    """Goals to meet by standing each tie on a rung of its ladder.

    ``goals``: unit -> fraction to save, in (0, 1). ``ranking``: group id -> each cell's
    channels, least important first. ``before``: figures of the whole model.
    """

    groups: Groups
    ladders: Ladders
    goals: Mapping[str, float]
    ranking: Mapping[int, tuple[IntArray, ...]]
    meter: Meter
    before: Figures

    def removal(self, levels: Levels) -> dict[int, list[int]]:
        """The channels that go at these levels."""
        return take(self.ranking, self.groups, levels)

    def saved(self, levels: Levels) -> dict[str, float]:
        """Fraction of each unit that these levels save."""
        after = self.meter.measure(self.removal(levels))
        return {
            unit: (figure(self.before) - figure(after)) / max(figure(self.before), 1)
            for unit, figure in UNITS.items()
        }

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
                    f"reachable with these groups{left if count else ''}; ask for less"
                )


Method = Callable[[Problem], Levels]
"""Decides how many channels a cell each tie gives up. Raises BudgetError if it cannot."""


def pose(
    graph: Graph,
    groups: Groups,
    scores: Scores,
    goals: Mapping[str, float],
    align: int = 1,
    min_keep: int = 1,
) -> Problem:
    """Read everything that a method needs, once. Raises OptionError as ``allocate`` does."""
    ladders = build_ladders(graph, groups, align, min_keep)
    meter = prepare(graph, groups)
    ranking = {g.id: rank(g, scores) for g in groups if g.tie in ladders.rungs}
    return Problem(groups, ladders, goals, ranking, meter, meter.measure({}))


def check_goals(save: Mapping[str, float]) -> dict[str, float]:
    """The goals as floats. Raises OptionError unless each is a unit and a fraction in (0, 1)."""
    if not save:
        raise OptionError("no budget was given, expected e.g. save={'memory': 0.224}")
    goals: dict[str, float] = {}
    fraction: Any  # whatever the user gave
    for unit, fraction in save.items():
        if unit not in UNITS:
            raise OptionError(f"a budget cannot be in {unit!r}, expected one of {', '.join(UNITS)}")
        if isinstance(fraction, bool) or not isinstance(fraction, Real):
            raise OptionError(
                f"the budget for {unit} is {fraction!r}, expected the fraction to save as a number"
            )
        value = float(fraction)
        if not 0 < value < 1:  # also refuses NaN
            hint = f" (for {value:g} % give {value / 100:g})" if 1 < value < 100 else ""
            raise OptionError(
                f"the budget for {unit} is {fraction!r}, expected the fraction to save, "
                f"above 0 and below 1{hint}"
            )
        goals[unit] = value
    return goals


def check_method(method: str, known: Mapping[str, Method]) -> None:
    """Raise OptionError for a method that is not in the table."""
    if method not in known:
        raise OptionError(
            f"no allocation method is called {method!r}, expected one of {', '.join(known)}"
        )


def floor_percent(fraction: float) -> str:
    """A percentage that is never above ``fraction``: asking for it succeeds."""
    return f"{math.floor(fraction * 10_000) / 100:.2f}%"
