"""Prices without the meter: what each tie saves alone, less what two ties save twice.

A weight ``[A, B]`` that loses a of A and b of B saves aB + Ab - ab: the product once, not twice.
So the price of a choice is a sum over ties and over pairs of ties. All is asked of the meter, so
that no unit needs a rule of its own here. It is exact for memory, params and macs, which are
sums of products of two widths (one tie alone: a quadratic); a product of three pruned widths
would be off, and units measured on spikes are, a little. Who uses an estimate checks its result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from psvit.allocate.choose import Levels
from psvit.allocate.events import highest
from psvit.allocate.losses import FloatArray
from psvit.allocate.problem import Problem

Pair = tuple[int, int]

COUNTS = ("memory", "params", "macs")
"""Units that depend on how many channels go, not on which."""

NOISE = 1e-9
"""Smallest share of a figure that counts as saved twice; rounding is below it."""

LOOKS = 12
"""Levels at which a tie is priced in the units that are no counts; straight in between."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """``alone[unit][tie][level]``: share saved. ``twice[pair][unit]``: share saved twice for each
    product of the two levels.
    """

    alone: Mapping[str, Mapping[int, FloatArray]]
    twice: Mapping[Pair, Mapping[str, float]]

    def saved(self, levels: Levels) -> dict[str, float]:
        """Share of each unit that these levels save."""
        gone = {tie: level for tie, level in levels.items() if level}
        products = {pair: gone.get(pair[0], 0) * gone.get(pair[1], 0) for pair in self.twice}
        return {
            unit: float(sum(alone[tie][level] for tie, level in gone.items()))
            - sum(product * self.twice[pair][unit] for pair, product in products.items() if product)
            for unit, alone in self.alone.items()
        }


@dataclass(frozen=True, eq=False)
class EstimatedProblem(Problem):
    """A problem whose prices are estimates: quick, for methods that ask for many."""

    estimate: Estimate | None = None

    def saved(self, levels: Levels) -> dict[str, float]:
        """Share of each unit with a goal, and of memory, that these levels save."""
        assert self.estimate is not None, "made by estimated() alone"
        return self.estimate.saved(levels)

    def meets(self, levels: Levels) -> bool:
        """Whether every goal is met, but for rounding."""
        saved = self.saved(levels)
        return all(saved[unit] >= goal - NOISE / 100 for unit, goal in self.goals.items())

    def shifted(self, goals: Mapping[str, float]) -> EstimatedProblem:
        """The same with other goals, in the same units."""
        return replace(self, goals=goals)


def estimated(problem: Problem) -> EstimatedProblem:
    """The problem with estimated prices."""
    top = highest(problem)
    alone = {unit: {t: alone_saved(problem, t, unit) for t in top} for unit in _units(problem)}
    same = {field.name: getattr(problem, field.name) for field in fields(Problem)}
    return EstimatedProblem(**same, estimate=Estimate(alone, find_overlaps(problem)))


def alone_saved(problem: Problem, tie: int, unit: str) -> FloatArray:
    """Share of a unit that each level of a tie saves alone, from none to its highest rung."""
    rungs = problem.ladders.rungs[tie]
    count = 3 if unit in COUNTS else LOOKS
    places = np.unique(np.linspace(0, len(rungs) - 1, count).round().astype(int))
    at = np.array([rungs[place] for place in places], dtype=np.float64)
    shares = np.array([problem.saved({tie: rungs[place]})[unit] for place in places])
    levels = np.arange(rungs[-1] + 1, dtype=np.float64)
    if unit not in COUNTS:
        straight: FloatArray = np.interp(levels, at, shares)
        return straight
    # the polynomial through the points, by Lagrange: exact at them
    curve = np.zeros(len(levels))
    for i, share in enumerate(shares):
        others = np.delete(at, i)
        curve += share * np.prod([(levels - x) / (at[i] - x) for x in others], axis=0)
    return curve


def find_overlaps(problem: Problem) -> dict[Pair, dict[str, float]]:
    """Pair of ties -> unit -> share that is saved twice, for each product of their levels.

    Only pairs that overlap are listed. They are found by halving: a tie that shares nothing with
    all of a set shares nothing with each of it. One look at a pair, both at the top, is enough.
    """
    top = highest(problem)
    ties = list(top)
    found: dict[Pair, dict[str, float]] = {}
    for place, tie in enumerate(ties):
        for other in _sharing(problem, top, tie, ties[place + 1 :]):
            shares = _twice(problem, top, tie, [other])
            product = top[tie] * top[other]
            found[tie, other] = {unit: share / product for unit, share in shares.items()}
    return found


def _sharing(
    problem: Problem, top: Mapping[int, int], tie: int, others: Sequence[int]
) -> list[int]:
    """Those of ``others`` that overlap with ``tie``."""
    if not others or not _overlap(problem, top, tie, others):
        return []
    if len(others) == 1:
        return list(others)
    half = len(others) // 2
    left = _sharing(problem, top, tie, others[:half])
    return left + _sharing(problem, top, tie, others[half:])


def _overlap(problem: Problem, top: Mapping[int, int], tie: int, others: Sequence[int]) -> bool:
    return any(abs(share) > NOISE for share in _twice(problem, top, tie, others).values())


def _twice(
    problem: Problem, top: Mapping[int, int], tie: int, others: Sequence[int]
) -> dict[str, float]:
    """By unit: the share saved by ``tie`` and by ``others`` alike, all at the top."""
    rest = {other: top[other] for other in others}
    alone, apart = problem.saved({tie: top[tie]}), problem.saved(rest)
    both = problem.saved({tie: top[tie], **rest})
    return {unit: alone[unit] + apart[unit] - both[unit] for unit in _units(problem)}


def _units(problem: Problem) -> list[str]:
    return list(dict.fromkeys(["memory", *problem.goals]))
