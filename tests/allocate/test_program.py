"""The mixed-integer program alone, against every combination of its own candidates."""

from __future__ import annotations

import os
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psvit.allocate.program import Program, _stdout_kept_clean, solve

UNITS = ("memory", "macs")


def drawn(seed: int, ties: int, reach: float) -> Program:
    """A program of random shape, in which products matter as much as single savings."""
    random = np.random.default_rng(seed)
    candidates = {
        t: [0, *sorted(random.choice(np.arange(1, 9), random.integers(1, 4), replace=False))]
        for t in range(ties)
    }
    pairs = [p for p in combinations(range(ties), 2) if random.random() < 0.7]
    share = {u: random.uniform(0.01, 0.06, ties) for u in UNITS}
    twice = {
        (a, b): {u: random.uniform(0, 0.1) * min(share[u][a], share[u][b]) for u in UNITS}
        for a, b in pairs
    }
    saves = {u: {t: [share[u][t] * k for k in candidates[t]] for t in candidates} for u in UNITS}
    loss = {
        t: [0.0, *np.cumsum(random.exponential(1, len(ks) - 1))] for t, ks in candidates.items()
    }
    program = Program(candidates, loss, saves, twice, {})
    most = saved(program, {t: len(ks) - 1 for t, ks in candidates.items()})
    return Program(candidates, loss, saves, twice, {u: reach * most[u] for u in UNITS})


def saved(program: Program, picks: dict[int, int]) -> dict[str, float]:
    """Share saved when tie t takes its candidate number ``picks[t]``."""
    level = {t: program.candidates[t][k] for t, k in picks.items()}
    return {
        u: sum(program.saves[u][t][k] for t, k in picks.items())
        - sum(share[u] * level[a] * level[b] for (a, b), share in program.twice.items())
        for u in program.saves
    }


def least(program: Program, slack: float = 0.0) -> float:
    """The least loss of all combinations that meet the goals (missing them by ``slack``)."""
    best = np.inf
    for choice in product(*(range(len(ks)) for ks in program.candidates.values())):
        picks = dict(zip(program.candidates, choice, strict=True))
        got = saved(program, picks)
        if all(got[u] >= goal * (1 - slack) for u, goal in program.goals.items()):
            best = min(best, sum(program.loss[t][k] for t, k in picks.items()))
    return float(best)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**20), st.integers(1, 5), st.floats(0.05, 0.99))
def test_the_least_of_all_combinations_is_found_and_proven(
    seed: int, ties: int, reach: float
) -> None:
    program = drawn(seed, ties, reach)
    upper = sum(losses[-1] for losses in program.loss.values())
    solved = solve(program, upper, seconds=30)
    assert solved.proven
    picks = {t: program.candidates[t].index(level) for t, level in solved.levels.items()}
    got = saved(program, picks)
    assert all(got[u] >= goal * (1 - 1e-5) for u, goal in program.goals.items())
    found = sum(program.loss[t][k] for t, k in picks.items())
    assert least(program, 1e-5) - 1e-9 <= found <= least(program) * (1 + 1e-5) + 1e-9
    assert solved.bound <= least(program) * (1 + 1e-5) + 1e-9


def test_a_known_choice_bounds_the_search_and_none_better_is_said() -> None:
    program = drawn(3, 4, 0.6)
    best = least(program)
    exact = solve(program, best, seconds=30)
    assert sum(
        program.loss[t][program.candidates[t].index(level)] for t, level in exact.levels.items()
    ) == pytest.approx(best)
    nothing = Program(
        program.candidates, program.loss, program.saves, program.twice, {"memory": 2.0}
    )
    solved = solve(nothing, best, seconds=30)
    assert solved.levels is None
    assert solved.proven
    assert solved.bound == np.inf


def test_what_native_code_prints_does_not_reach_stdout(capfd: pytest.CaptureFixture) -> None:
    with _stdout_kept_clean():
        os.write(1, b"a native library says something")
    os.write(1, b"a result")
    assert capfd.readouterr().out == "a result"
