"""The choice of levels as a mixed-integer program, solved by HiGHS to proven optimality.

One binary a candidate level, one level a tie; the losses are the objective, the budgets the
constraints. Where two ties overlap, the product of their levels is linearised exactly: with x_a
the binaries of one tie and l the level of the other (at most m), the variables w_a in [0, x_a]
with sum over a of w_a = l / m are l / m for the chosen a and 0 else, because exactly one x_a is
1. So the product is the sum over a of a m w_a.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import coo_array

from psvit.allocate.estimate import Pair
from psvit.allocate.losses import FloatArray

Candidates = Mapping[int, Sequence[int]]
"""Tie -> the levels it may take, ascending, 0 among them."""

_SLACK = 1e-7
"""Relative: by so much a solution may be off a constraint or the bound; see HiGHS's tolerances."""


@dataclass(frozen=True)
class Program:
    """``loss[tie][k]`` and ``saves[unit][tie][k]`` of the k-th candidate level of a tie alone.

    ``twice[pair][unit]``: share saved twice for each product of the two levels. ``goals``: unit
    -> share to save.
    """

    candidates: Candidates
    loss: Mapping[int, Sequence[float]]
    saves: Mapping[str, Mapping[int, Sequence[float]]]
    twice: Mapping[Pair, Mapping[str, float]]
    goals: Mapping[str, float]


@dataclass(frozen=True)
class Solved:
    """Levels (None if there are none within the limits), and what was proven about them.

    ``bound``: no choice of these candidates has a lower loss. ``proven``: the levels are within
    rounding of it.
    """

    levels: dict[int, int] | None
    bound: float
    proven: bool


@dataclass
class _Rows:
    """Constraints as they are collected: sparse rows, each with its right-hand side."""

    entries: list[tuple[int, int, float]] = field(default_factory=list)
    right: list[float] = field(default_factory=list)

    def add(self, row: Mapping[int, float], right: float) -> None:
        self.entries += [(len(self.right), column, value) for column, value in row.items()]
        self.right.append(right)

    def matrix(self, columns: int) -> tuple[Any, FloatArray]:
        """The rows as a sparse matrix, and the right-hand sides."""
        rows, cols, values = zip(*self.entries, strict=True)
        shape = (len(self.right), columns)
        return coo_array((values, (rows, cols)), shape).tocsr(), np.array(self.right)


def solve(program: Program, upper: float, seconds: float) -> Solved:
    """The levels of least loss that meet every goal, if that is at most ``upper``.

    ``upper`` is the loss of a known choice, above 0, and losses are scaled by it (or by that of
    a greedy choice, if that is less), so that HiGHS's tolerances suit them. ``seconds``: time
    limit.

    HiGHS cannot be given a choice to start from, so what follows from one is worked out here:
    levels that alone lose more are left out, and so are those that the linear relaxation shows
    to be in no better choice, as its bound plus their reduced cost is above ``upper``. If most
    pairs share one tie (a residual stream), its levels are tried one by one, the most promising
    first: with it decided, the rest is nearly a knapsack, and most of its levels need no search.
    """
    end = time.perf_counter() + seconds
    upper = min(upper, greedy_loss(program) or upper)
    allowed = {
        tie: [k for k, loss in enumerate(losses) if loss <= upper * (1 + _SLACK)]
        for tie, losses in program.loss.items()
    }
    hub = _hub(program)
    branches = [allowed] if hub is None else [{**allowed, hub: [k]} for k in allowed[hub]]
    relaxed = sorted((_relax(program, b, upper) for b in branches), key=lambda r: r.bound)
    best: dict[int, int] | None = None
    bounds, proven = [], True
    for branch in relaxed:
        if branch.bound > upper * (1 + 1e-6):
            bounds.append(branch.bound)
            continue
        left = branch.without(upper)
        solved = _solve_form(
            program, left, _form(program, left, upper), upper, end - time.perf_counter()
        )
        bounds.append(solved.bound)
        proven = proven and solved.proven
        if solved.levels is not None:
            loss = _loss(program, solved.levels)
            if best is None or loss < _loss(program, best):
                best, upper = solved.levels, min(upper, loss) or upper
    return Solved(best, min(bounds), proven)


def _loss(program: Program, levels: Mapping[int, int]) -> float:
    return sum(
        program.loss[tie][program.candidates[tie].index(level)] for tie, level in levels.items()
    )


def _hub(program: Program) -> int | None:
    """The tie that most pairs share, if there is one and there are several pairs."""
    count = Counter(tie for pair in program.twice for tie in pair)
    tie, pairs = count.most_common(1)[0] if count else (None, 0)
    return tie if pairs > 3 and 2 * pairs > len(program.twice) else None


@dataclass(frozen=True)
class _Relaxed:
    """The linear relaxation: its bound, and what each candidate level costs beyond it at least."""

    bound: float
    allowed: Mapping[int, Sequence[int]]
    cost: Mapping[tuple[int, int], float]

    def without(self, upper: float) -> Mapping[int, Sequence[int]]:
        """The levels that a choice of at most ``upper`` may hold."""
        spare = upper * (1 + 1e-6) - self.bound
        return {
            tie: [k for k in ks if self.cost.get((tie, k), 0.0) <= spare] or ks
            for tie, ks in self.allowed.items()
        }


def _relax(program: Program, allowed: Mapping[int, Sequence[int]], upper: float) -> _Relaxed:
    form = _form(program, allowed, upper)
    found = linprog(
        form.objective, A_ub=form.upper, b_ub=form.at_most, A_eq=form.equal, b_eq=form.equals,
        bounds=(0, 1), method="highs",
    )  # fmt: skip
    if found.status != 0:  # infeasible, or not solved: then nothing is known
        return _Relaxed(np.inf if found.status == 2 else 0.0, allowed, {})
    cost = {key: found.lower.marginals[place] * upper for key, place in form.column.items()}
    return _Relaxed(found.fun * upper, allowed, cost)


def greedy_loss(program: Program) -> float | None:
    """The loss of a choice that meets the goals: the least loss for what is missing, step by step.

    None if no step helps any more and a goal is still open.
    """
    stands = dict.fromkeys(program.candidates, 0)
    missing = {unit: goal * (1 + _SLACK) for unit, goal in program.goals.items()}
    # unit -> tie -> what a further level of the tie saves less, for what others save already
    less = {unit: dict.fromkeys(stands, 0.0) for unit in missing}
    sharing: dict[int, list[tuple[int, Mapping[str, float]]]] = {tie: [] for tie in stands}
    for (one, other), share in program.twice.items():
        sharing[one].append((other, share))
        sharing[other].append((one, share))
    while any(open_ > 0 for open_ in missing.values()):
        best: tuple[float, int, int] | None = None
        for tie, k in stands.items():
            levels, loss = program.candidates[tie], program.loss[tie]
            for then in range(k + 1, len(levels)):
                gain = sum(
                    min(_gain(program, less, unit, tie, k, then), open_) / program.goals[unit]
                    for unit, open_ in missing.items()
                    if open_ > 0
                )
                if gain > _SLACK**2:
                    ranked = ((loss[then] - loss[k]) / gain, tie, then)
                    best = ranked if best is None else min(best, ranked)
        if best is None:
            return None
        _, tie, then = best
        step = program.candidates[tie][then] - program.candidates[tie][stands[tie]]
        for unit in missing:
            missing[unit] -= _gain(program, less, unit, tie, stands[tie], then)
        for other, share in sharing[tie]:
            for unit in missing:
                less[unit][other] += share[unit] * step
        stands[tie] = then
    return sum(program.loss[tie][k] for tie, k in stands.items())


def _gain(
    program: Program, less: Mapping[str, Mapping[int, float]], unit: str, tie: int, k: int, to: int
) -> float:
    """What a tie saves more of a unit at candidate ``to`` than at ``k``."""
    alone, levels = program.saves[unit][tie], program.candidates[tie]
    return alone[to] - alone[k] - less[unit][tie] * (levels[to] - levels[k])


@dataclass(frozen=True)
class _Form:
    """The program in matrices: minimise ``objective`` under ``upper x <= at_most`` and
    ``equal x = equals``. ``column[tie, k]``: the binaries, which come first.
    """

    column: Mapping[tuple[int, int], int]
    objective: FloatArray
    upper: Any
    at_most: FloatArray
    equal: Any
    equals: FloatArray


def _form(program: Program, allowed: Mapping[int, Sequence[int]], upper: float) -> _Form:
    column = {
        (tie, k): place
        for place, (tie, k) in enumerate((t, k) for t, ks in allowed.items() for k in ks)
    }
    rows, equal = _Rows(), _Rows()
    for tie, ks in allowed.items():
        equal.add({column[tie, k]: 1.0 for k in ks}, 1)
    saving: dict[str, dict[int, float]] = {
        unit: {column[tie, k]: alone[tie][k] for tie, k in column}
        for unit, alone in program.saves.items()
    }
    columns = _add_products(program, allowed, column, rows, equal, saving)
    for unit, goal in program.goals.items():
        scale = max(goal, _SLACK)
        rows.add({c: -v / scale for c, v in saving[unit].items()}, -goal / scale)
    objective = np.zeros(columns)
    for (tie, k), place in column.items():
        objective[place] = program.loss[tie][k] / upper
    return _Form(column, objective, *rows.matrix(columns), *equal.matrix(columns))


def _solve_form(
    program: Program,
    allowed: Mapping[int, Sequence[int]],
    form: _Form,
    upper: float,
    seconds: float,
) -> Solved:
    columns = len(form.objective)
    with _stdout_kept_clean():
        found = milp(
            form.objective,
            constraints=[
                LinearConstraint(form.upper, -np.inf, form.at_most),
                LinearConstraint(form.equal, form.equals, form.equals),
            ],
            integrality=np.arange(columns) < len(form.column),
            bounds=Bounds(0, 1),
            options={"time_limit": max(seconds, 0.1), "mip_rel_gap": _SLACK},
        )
    if found.x is None:
        return Solved(None, np.inf if found.status == 2 else 0.0, found.status == 2)
    levels = {
        tie: program.candidates[tie][max(ks, key=lambda k: found.x[form.column[tie, k]])]
        for tie, ks in allowed.items()
    }
    return Solved(levels, float(found.mip_dual_bound) * upper, found.status == 0)


@contextmanager
def _stdout_kept_clean() -> Iterator[None]:
    """Send what native code prints to stderr.

    HiGHS leaves a line on stdout now and then although it is told to be silent, and stdout
    belongs to ``--json``.
    """
    sys.stdout.flush()
    try:
        stdout = os.dup(1)
        os.dup2(2, 1)
    except OSError:  # a program without standard streams
        yield
        return
    try:
        yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)


def _add_products(
    program: Program,
    allowed: Mapping[int, Sequence[int]],
    column: Mapping[tuple[int, int], int],
    rows: _Rows,
    equal: _Rows,
    saving: Mapping[str, dict[int, float]],
) -> int:
    """Add a product for each pair that overlaps; returns the number of columns there are now.

    The tie of more pairs (a residual stream, say) is the one whose binaries are spelled out: with
    them decided, the rest falls apart into ties of their own.
    """
    columns = len(column)
    pairs_of = Counter(tie for pair in program.twice for tie in pair)
    for pair, twice in program.twice.items():
        hub, leaf = sorted(pair, key=lambda tie: -pairs_of[tie])
        hub_levels, leaf_levels = program.candidates[hub], program.candidates[leaf]
        most = max(leaf_levels[k] for k in allowed[leaf])
        if not most:
            continue
        parts = {k: columns + place for place, k in enumerate(allowed[hub])}
        columns += len(parts)
        for k, part in parts.items():
            rows.add({part: 1.0, column[hub, k]: -1.0}, 0)
            for unit, row in saving.items():
                row[part] = -twice[unit] * hub_levels[k] * most
        total = dict.fromkeys(parts.values(), 1.0)
        level = {column[leaf, k]: -leaf_levels[k] / most for k in allowed[leaf]}
        equal.add(total | level, 0)
    return columns
