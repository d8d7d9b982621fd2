"""The least summed sensitivity that meets every budget at once, by mixed-integer programming.

Minimise the sum over ties of the predicted KL, subject to every budget; heads, ties and alignment
are in the ladders. What a pair of ties saves together is not the sum: see ``overlaps`` and, for
how that becomes linear without loss, ``program``.

A ladder of up to LEVELS rungs is solved whole: the result is then the optimum, proven. Longer
ones are first thinned to LEVELS rungs, with the measured ratios among them, and solved; then
the rungs around that solution are, twice, down to single channels. So the result is the proven
optimum over the thinned rungs, improved; and never worse than ``uniform``, ``psvit`` and
``primesvt``, which it starts from.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from psvit.allocate.choose import Levels
from psvit.allocate.estimate import EstimatedProblem, estimated
from psvit.allocate.events import highest
from psvit.allocate.polish import lift, trim
from psvit.allocate.primesvt import primesvt
from psvit.allocate.problem import Method, Problem
from psvit.allocate.program import Candidates, Program, Solved, solve
from psvit.allocate.psvit import psvit
from psvit.allocate.uniform import uniform
from psvit.errors import BudgetError

LEVELS = 12
"""Candidate levels of a tie in one program."""

ROUNDS = 3
"""Programs at most: the thinned ladders, and two refinements."""

SECONDS = 20.0
"""Time limit of one program; what is found by then counts, and is not called proven."""

CORRECTIONS = 2
"""How often all is worked out again because the estimated prices were off."""

CLOSE = 1e-6
"""Share of a figure that estimated prices may be off."""

PRESETS: tuple[Method, ...] = (uniform, psvit, primesvt)


@dataclass(frozen=True)
class Solution:
    """The levels found, their summed loss, and what was proven about the first program.

    ``bound``: no choice of its candidate levels loses less. ``proven``: HiGHS closed the gap.
    ``exact``: every rung of every ladder was a candidate, so ``bound`` holds for all choices.
    ``seconds``: the programs; ``pricing_s``: what came before, asking for prices.
    """

    levels: Levels
    loss: float
    bound: float
    proven: bool
    exact: bool
    seconds: float
    pricing_s: float


def optimal(problem: Problem) -> Levels:
    """The levels of least summed loss. Raises OptionError without curves, BudgetError."""
    return solve_optimal(problem).levels


def solve_optimal(problem: Problem) -> Solution:
    """``optimal``, with what was proven. Raises as it does.

    All is worked out on estimated prices. Where they are off at the solution, the goals are
    shifted by as much and it is worked out again; the last channels are settled on real prices.
    """
    losses = problem.known_losses("method 'optimal'")
    problem.check_reachable(highest(problem))
    start = time.perf_counter()
    quick = estimated(problem)
    pricing_s = time.perf_counter() - start
    levels, first = _improve(quick)
    shift = _off(problem, quick, levels)
    known: list[Levels] = []
    if max(map(abs, shift.values()), default=0.0) > CLOSE:
        known = [trim(problem, method(problem)) for method in PRESETS]
    for _ in range(CORRECTIONS):
        if max(map(abs, shift.values()), default=0.0) <= CLOSE:
            break
        known.append(trim(problem, lift(problem, levels)))
        goals = {unit: goal + shift[unit] for unit, goal in problem.goals.items()}
        try:
            levels, _ = _improve(quick.shifted(goals))
        except BudgetError:  # so much off that the estimate takes the goals to be out of reach
            break
        shift = _off(problem, quick, levels)
    best = min([trim(problem, lift(problem, levels)), *known], key=losses.predict)
    exact = all(len(rungs) <= LEVELS for rungs in problem.ladders.rungs.values())
    return Solution(
        levels=best,
        loss=losses.predict(best),
        bound=min(first.bound, losses.predict(best)),
        proven=first.proven,
        exact=exact,
        seconds=time.perf_counter() - start - pricing_s,
        pricing_s=pricing_s,
    )


def _improve(problem: EstimatedProblem) -> tuple[Levels, Solved]:
    """The best levels found, and the answer to the first program."""
    losses = problem.known_losses("method 'optimal'")
    best: Levels = min((trim(problem, m(problem)) for m in PRESETS), key=losses.predict)
    first = Solved(None, 0.0, True)  # right if nothing can be better
    candidates = thin(problem, best)
    for turn in range(ROUNDS):
        if losses.predict(best) <= 0:
            break
        solved = solve(_program(problem, candidates), losses.predict(best), SECONDS)
        first = first if turn else solved
        if solved.levels is not None:
            best = min(best, trim(problem, lift(problem, solved.levels)), key=losses.predict)
        finer = around(problem, best, candidates)
        if all(set(finer[tie]) <= set(candidates[tie]) for tie in finer):
            break
        candidates = finer
    return best, first


def _program(problem: EstimatedProblem, candidates: Candidates) -> Program:
    losses = problem.known_losses("method 'optimal'")
    assert problem.estimate is not None
    alone = problem.estimate.alone
    return Program(
        candidates=candidates,
        loss={t: [float(losses.kl[t][k]) for k in ks] for t, ks in candidates.items()},
        saves={
            unit: {t: [float(alone[unit][t][k]) for k in ks] for t, ks in candidates.items()}
            for unit in problem.goals
        },
        twice=problem.estimate.twice,
        goals=problem.goals,
    )


def _off(problem: Problem, quick: EstimatedProblem, levels: Levels) -> dict[str, float]:
    """By unit of a goal, how much more the estimate takes these levels to save than they do."""
    said, true = quick.saved(levels), problem.saved(levels)
    return {unit: said[unit] - true[unit] for unit in problem.goals}


def thin(problem: Problem, also: Levels) -> dict[int, list[int]]:
    """At most LEVELS rungs of each tie: none, all, where curves bend, and the level in ``also``."""
    losses = problem.known_losses("method 'optimal'")
    thinned = {}
    for tie, kl in losses.kl.items():
        rungs = problem.ladders.rungs[tie]
        if len(rungs) <= LEVELS:
            thinned[tie] = list(rungs)
            continue
        bends = np.flatnonzero(np.abs(np.diff(kl, 2)) > 1e-12 * max(float(kl[-1]), 1e-300)) + 1
        wanted = {_nearest(rungs, int(bend)) for bend in bends}
        wanted = set(sorted(wanted, key=lambda r: -_bend(kl, r))[: LEVELS - 3])
        wanted |= {0, rungs[-1], also.get(tie, 0)}
        spread = np.linspace(0, len(rungs) - 1, LEVELS).round().astype(int)
        for place in spread:
            if len(wanted) >= LEVELS:
                break
            wanted.add(rungs[place])
        thinned[tie] = sorted(wanted)
    return thinned


def _bend(kl: np.ndarray, level: int) -> float:
    return abs(float(kl[level - 1] - 2 * kl[level] + kl[level + 1])) if level + 1 < len(kl) else 0.0


def _nearest(rungs: Sequence[int], level: int) -> int:
    return min(rungs, key=lambda rung: abs(rung - level))


def around(problem: Problem, best: Levels, candidates: Candidates) -> dict[int, list[int]]:
    """For each tie LEVELS - 1 finer rungs around its level in ``best``, and 0.

    They reach as far as the next coarser candidate on either side.
    """
    finer = {}
    for tie, coarse in candidates.items():
        rungs, level = problem.ladders.rungs[tie], best.get(tie, 0)
        below = max((rung for rung in coarse if rung < level), default=0)
        above = min((rung for rung in coarse if rung > level), default=rungs[-1])
        near = [rung for rung in rungs if below <= rung <= above]
        spread = np.linspace(0, len(near) - 1, LEVELS - 2).round().astype(int)
        finer[tie] = sorted({0, level, *(near[place] for place in spread)})
    return finer
