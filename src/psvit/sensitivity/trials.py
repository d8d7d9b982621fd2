"""What there is to measure: each tie alone, at each ratio of the grid."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from psvit.allocate.choose import rank, take
from psvit.allocate.ladders import prunable_ties
from psvit.errors import ModelError, OptionError, PlanError
from psvit.groups import make_plan
from psvit.records import Graph, Group, Groups, Plan, Removal, Scores

GRID = (0.1, 0.25, 0.5, 0.75)
"""Fractions of a cell that are removed, if no others are asked for."""
STREAM = "residual stream"
"""The role of channels that many layers share."""


@dataclass(frozen=True, eq=False)
class Trial:
    """One removal to measure: ``removed`` channels of every cell of the groups of a tie."""

    tie: int
    ratio: float
    removed: int
    removal: Removal
    plan: Plan


@dataclass(frozen=True, eq=False)
class Trials:
    """All of them by tie and rising ratio; ``names`` of the ties; what is ``left_out`` and why."""

    items: tuple[Trial, ...]
    names: Mapping[int, str]
    left_out: tuple[str, ...]


def list_trials(graph: Graph, groups: Groups, scores: Scores, grid: Sequence[float]) -> Trials:
    """The trials of every tie that can be pruned, by the channels with the lowest scores.

    A ratio is rounded to whole channels of the tie's smallest cell, at least one, and one stays.
    Ratios that come to the same number are one trial, under the ratio nearest to what is
    removed. Raises ModelError where nothing can be pruned, OptionError for scores that do not
    fit the groups.
    """
    items, left_out = [], []
    ties = prunable_ties(groups)
    names = _names(ties)
    for tie, members in sorted(ties.items()):
        ranking = {group.id: rank(group, scores) for group in members}
        for removed, ratio in _counts(members, grid).items():
            removal = take(ranking, groups, {tie: removed})
            try:
                plan = make_plan(graph, groups, removal)
            except PlanError as error:
                left_out.append(f"{names[tie]} at {ratio:g}: {error}")
            else:
                items.append(Trial(tie, ratio, removed, removal, plan))
    if not items:
        raise ModelError(
            "no group of channels of this model can be pruned: `psvit inspect` says why"
        )
    return Trials(tuple(items), names, tuple(left_out))


def check_grid(grid: Sequence[float]) -> tuple[float, ...]:
    """The ratios, ascending, each once. Raises OptionError unless all are numbers in (0, 1)."""
    ratios = set()
    ratio: Any  # whatever the user gave
    for ratio in grid:
        number = isinstance(ratio, Real) and not isinstance(ratio, bool)
        value = float(ratio) if number else math.nan
        if not 0 < value < 1:
            hint = f" (for {value:g} % give {value / 100:g})" if 1 < value < 100 else ""
            raise OptionError(
                f"the grid has the ratio {ratio!r}, expected fractions of a group's channels to "
                f"remove, above 0 and below 1{hint}"
            )
        ratios.add(value)
    if not ratios:
        raise OptionError("the grid is empty, expected ratios such as 0.1,0.25,0.5,0.75")
    return tuple(sorted(ratios))


def _counts(members: Sequence[Group], grid: Sequence[float]) -> dict[int, float]:
    """Channels that go from each cell, ascending -> the ratio of the grid that stands for it."""
    cell = min(len(cell) for group in members for cell in group.cells)
    counts: dict[int, float] = {}
    for ratio in grid:
        removed = min(max(1, math.floor(ratio * cell + 0.5)), cell - 1)
        known = counts.get(removed)
        if known is None or abs(ratio - removed / cell) < abs(known - removed / cell):
            counts[removed] = ratio
    return counts


def _names(ties: Mapping[int, Sequence[Group]]) -> dict[int, str]:
    """A name of each tie; with the roles of its groups where the layers alone do not tell."""
    plain = {tie: _name(members) for tie, members in sorted(ties.items())}
    times = Counter(plain.values())
    return {
        tie: name if times[name] == 1 else f"{name} [{', '.join(_roles(ties[tie]))}]"
        for tie, name in plain.items()
    }


def _name(members: Sequence[Group]) -> str:
    layers = list(dict.fromkeys(group.name for group in members))
    more = f" and {len(layers) - 2} more" if len(layers) > 2 else ""
    name = ", ".join(layers[:2]) + more
    return f"{STREAM} of {name}" if STREAM in _roles(members) else name


def _roles(members: Sequence[Group]) -> list[str]:
    return list(dict.fromkeys(group.role for group in members))
