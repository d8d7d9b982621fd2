"""The choice of levels as a mixed-integer program, solved by HiGHS to proven optimality.

One binary a candidate level, one level a tie; the losses are the objective, the budgets the
constraints. Where two ties overlap, the product of their levels is linearised exactly: with x_a
the binaries of one tie and l the level of the other (at most m), the variables w_a in [0, x_a]
with sum over a of w_a = l / m are l / m for the chosen a and 0 else, because exactly one x_a is
1. So the product is the sum over a of a m w_a.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from psvit.allocate.estimate import Pair

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
    """Constraints as they are collected: sparse rows with a lower and an upper limit."""

    entries: list[tuple[int, int, float]] = field(default_factory=list)
    lower: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)

    def add(self, row: Mapping[int, float], lower: float, upper: float) -> None:
        self.entries += [(len(self.lower), column, value) for column, value in row.items()]
        self.lower.append(lower)
        self.upper.append(upper)

    def matrix(self, columns: int) -> LinearConstraint:
        rows, cols, values = zip(*self.entries, strict=True)
        shape = (len(self.lower), columns)
        return LinearConstraint(coo_array((values, (rows, cols)), shape), self.lower, self.upper)


def solve(program: Program, upper: float, seconds: float) -> Solved:
    """The levels of least loss that meet every goal, if that is at most ``upper``.

    ``upper`` is the loss of a known choice, above 0: levels that alone lose more are left out,
    and losses are scaled by it, so that HiGHS's tolerances suit them. ``seconds``: time limit.
    """
    allowed = {
        tie: [k for k, loss in enumerate(program.loss[tie]) if loss <= upper * (1 + _SLACK)]
        for tie in program.candidates
    }
    column = {
        (tie, k): place
        for place, (tie, k) in enumerate((t, k) for t, ks in allowed.items() for k in ks)
    }
    binaries = len(column)
    rows = _Rows()
    for tie, ks in allowed.items():
        rows.add({column[tie, k]: 1.0 for k in ks}, 1, 1)
    saving: dict[str, dict[int, float]] = {
        unit: {column[tie, k]: alone[tie][k] for tie, k in column}
        for unit, alone in program.saves.items()
    }
    columns = _add_products(program, allowed, column, rows, saving)
    for unit, goal in program.goals.items():
        scale = max(goal, _SLACK)
        rows.add({c: v / scale for c, v in saving[unit].items()}, goal / scale, np.inf)
    objective = np.zeros(columns)
    for (tie, k), place in column.items():
        objective[place] = program.loss[tie][k] / upper
    found = milp(
        objective,
        constraints=rows.matrix(columns),
        integrality=np.arange(columns) < binaries,
        bounds=Bounds(0, 1),
        options={"time_limit": seconds, "mip_rel_gap": _SLACK},
    )
    bound = found.mip_dual_bound
    if found.x is None:
        return Solved(None, np.inf if found.status == 2 else 0.0, found.status == 2)
    levels = {
        tie: program.candidates[tie][max(ks, key=lambda k: found.x[column[tie, k]])]
        for tie, ks in allowed.items()
    }
    return Solved(levels, float(bound) * upper, found.status == 0)


def _add_products(
    program: Program,
    allowed: Mapping[int, Sequence[int]],
    column: Mapping[tuple[int, int], int],
    rows: _Rows,
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
            rows.add({part: 1.0, column[hub, k]: -1.0}, -np.inf, 0)
            for unit, row in saving.items():
                row[part] = -twice[unit] * hub_levels[k] * most
        total = dict.fromkeys(parts.values(), 1.0)
        level = {column[leaf, k]: -leaf_levels[k] / most for k in allowed[leaf]}
        rows.add(total | level, 0, 0)
    return columns
