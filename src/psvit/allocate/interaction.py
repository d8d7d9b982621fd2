"""Settle what ties cost together by measuring, not by adding up what each costs alone.

The summed loss takes it that ties do not interact. Where much goes they do: the plan of the least
sum may lose more than that of another method. So the plans of all methods are measured whole, and
the best of them is improved: every tie is moved down and up a little, alone, and what that changes
is measured. These differences are the curves of a new problem, right near the plan. Its optimum is
tried first, then swaps, the most promising first: more of one tie for less of another. Moves of a
few ties add up better than those of all, and what they change is measured. Then again, with moves
of half the size.
Curves are also wrong beyond their last point. Where the plan of the least sum goes there, they are
measured farther first.
Of some hundred plans measured on few images the best is partly the luckiest. So moves may be
measured on few images, but a plan is kept only if it is better on more, which no move was chosen
on. What is returned lost the least of all plans that were judged: on the images of ``judge`` it
loses no more than any other method.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np

from psvit.allocate.choose import Levels
from psvit.allocate.events import memory_of_ties
from psvit.allocate.losses import FloatArray, Losses
from psvit.allocate.problem import Method, Problem
from psvit.allocate.swaps import swaps
from psvit.records import Removal

Measure = Callable[[Removal], float]
"""Measures a choice of channels (group id -> indices): a loss, lower is better."""

ROUNDS = 3
TIES = 12
"""Ties that are moved in a round; see ``at_stake``."""

RADIUS = 0.25
"""How far a tie is moved at first, as a share of its smallest cell."""

BEYOND = 10.0
"""Past the moves that were measured, a curve rises so many times as steeply."""

SWAPS = 8
"""Swaps that are measured in a round. A tie of which more did not help is not asked again."""

PROBES = 12
"""Points at most by which curves are measured farther."""

NEAR_END = 1 / 16
"""A curve that ends so near to a plan, as a share of its cell, is measured at the plan."""


def correct(
    problem: Problem,
    method: Method,
    measure: Measure,
    rivals: Sequence[Method] = (),
    rounds: int = ROUNDS,
    judge: Measure | None = None,
) -> Levels:
    """The levels of the lowest measured loss among the methods' plans and what improves on them.

    ``method`` finds the least summed loss; ``rivals`` give further plans to start from. ``judge``
    measures the plans to choose between, if not ``measure``, which measures moves. Takes at most
    ``2 + len(rivals) + PROBES + rounds * (2 * TIES + SWAPS + 1)`` measurements, and judges at most
    ``2 + len(rivals) + rounds * (SWAPS + 1)`` plans. Raises as the methods do.
    """
    known = _Known(problem, measure)
    judged = known if judge is None else _Known(problem, judge)
    starts = [decide(problem) for decide in (method, *rivals)]
    problem = probed(problem, method, known)
    best = min((*starts, method(problem)), key=judged.loss)
    radius = RADIUS
    for _ in range(rounds):
        best = _improved(problem, method, best, known, judged, radius)
        radius /= 2
    return best


def usual_plans(ties: int, rivals: int) -> tuple[int, int]:
    """About how many plans ``correct`` measures, and how many it judges.

    Fewer than it may: few curves are measured farther, and few swaps are worth judging.
    """
    starts = 2 + rivals
    moves = PROBES // 3 + ROUNDS * (2 * min(TIES, ties) + SWAPS)
    return starts + moves, starts + 2 * ROUNDS


def _improved(
    problem: Problem, method: Method, best: Levels, known: _Known, judged: _Known, radius: float
) -> Levels:
    """``best``, or what is better by the moves of one size."""
    ties = at_stake(problem, best)
    problem = replace(problem, losses=near(problem, best, known, radius))
    best = min(best, method(problem), key=judged.loss)
    failed: set[int] = set()
    plans = swaps(problem, best, ties, radius)
    for _ in range(SWAPS):
        more, plan = next(((m, p) for m, p in plans if m not in failed), (None, best))
        if more is None:
            break
        better = known.loss(plan) < known.loss(best)
        if better and judged.loss(plan) < judged.loss(best):
            best, plans = plan, swaps(problem, plan, ties, radius)
        else:
            failed.add(more)
    return best


def probed(problem: Problem, method: Method, known: _Known) -> Problem:
    """The problem with curves that were measured as far as its solution goes.

    From its last point a curve is followed by half of what is left, as it may soon fall off.
    """
    left = PROBES
    while left:
        losses = problem.known_losses("correcting for interaction")
        guessed = {t: level for t, level in method(problem).items() if level > losses.known_to[t]}
        if not guessed:
            break
        for tie, level in list(guessed.items())[:left]:
            last, cell = losses.known_to[tie], problem.ladders.cell[tie]
            if level - last > NEAR_END * cell:
                half = (last + level) / 2
                level = min((r for r in problem.ladders.rungs[tie] if r >= half), default=level)
            losses = losses.measured(tie, level, known.loss({tie: level}))
            left -= 1
        problem = replace(problem, losses=losses)
    return problem


@dataclass(frozen=True, eq=False)
class _Known:
    """The measured losses of levels, each measured once."""

    problem: Problem
    measure: Measure
    losses: dict[frozenset[tuple[int, int]], float] = field(default_factory=dict)

    def loss(self, levels: Levels) -> float:
        key = frozenset((tie, level) for tie, level in levels.items() if level)
        if key not in self.losses:
            self.losses[key] = self.measure(self.problem.removal(levels))
        return self.losses[key]


def near(problem: Problem, levels: Levels, known: _Known, radius: float) -> Losses:
    """Curves that tell what moving from ``levels`` costs: measured for the ties at stake.

    Below the move down nothing is gained; beyond the move up a curve is steep, as nothing is known
    there. The ties that are not at stake keep the curves that they have.
    """
    losses = problem.known_losses("correcting for interaction")
    ties = at_stake(problem, levels)
    floor = max(known.loss(levels), 0.0) / max(len(ties), 1)
    curves = {tie: _curve(problem, levels, known, tie, radius, floor) for tie in ties}
    return replace(losses, kl={**losses.kl, **curves})


def at_stake(problem: Problem, levels: Levels) -> list[int]:
    """At most TIES ties: in turns that of the largest predicted loss and of the most memory."""
    losses = problem.known_losses("correcting for interaction")
    by_loss = sorted(losses.kl, key=lambda tie: (-losses.kl[tie][levels.get(tie, 0)], tie))
    by_memory = [tie for tie in memory_of_ties(problem) if tie in losses.kl]
    in_turns = chain.from_iterable(zip(by_loss, by_memory, strict=False))
    return list(dict.fromkeys(in_turns))[:TIES]


def _curve(
    problem: Problem, levels: Levels, known: _Known, tie: int, radius: float, floor: float
) -> FloatArray:
    """The loss of a tie at each of its levels, but for a constant; ``floor``: its least rise."""
    rungs, cell = problem.ladders.rungs[tie], problem.ladders.cell[tie]
    now, step = levels.get(tie, 0), max(1, round(radius * cell))
    here = known.loss(levels)
    places, losses = [0], [0.0]
    rises = [floor / cell]
    if now:
        down = max((rung for rung in rungs if rung <= now - step), default=0)
        gained = max(here - known.loss({**levels, tie: down}), 0.0)
        places, losses = [*([0] if down else []), down, now], [*([0.0] if down else []), 0, gained]
        rises.append(gained / (now - down))
    if now < rungs[-1]:
        up = min((rung for rung in rungs if rung >= now + step), default=rungs[-1])
        lost = max(known.loss({**levels, tie: up}) - here, 0.0)
        places, losses = [*places, up], [*losses, losses[-1] + lost]
        rises.append(lost / (up - now))
    every = np.arange(cell + 1)
    steep = BEYOND * max(rises) * np.maximum(every - places[-1], 0)
    curve: FloatArray = np.interp(every, places, losses) + steep
    return curve
