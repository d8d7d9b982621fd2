"""The optimum is that of brute force, meets every budget, and is never worse than a preset."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from psvit.allocate import METHODS, Problem, pose
from psvit.allocate.estimate import find_overlaps
from psvit.allocate.events import highest
from psvit.allocate.optimal import around, solve_optimal, thin
from psvit.errors import BudgetError, OptionError
from psvit.records import Figures, Removal
from tests.allocate.curves import posed, random_curves
from tests.allocate.synthetic import Hidden, chain, random_scores

UNITS = ("memory", "params", "macs", "sops")
shares = st.floats(0.01, 0.9)
goals = st.dictionaries(st.sampled_from(UNITS), shares, min_size=1)
counted = st.dictionaries(st.sampled_from(UNITS[:3]), shares, min_size=1)
seeds = st.integers(0, 2**16)
small = st.builds(
    Hidden,
    cell=st.integers(1, 5),
    cells=st.integers(1, 2),
    fused=st.booleans(),
    tie=st.sampled_from([None, None, 90]),
)
large = st.builds(Hidden, st.integers(1, 70), st.integers(1, 3), st.booleans())


def chain_of(layers: list[Hidden]) -> tuple:
    """A chain; tied layers get cells of one size."""
    tied = next((h.cell for h in layers if h.tie == 90), 1)
    return chain([Hidden(tied, h.cells, h.fused, 90) if h.tie == 90 else h for h in layers])


def brute_force(problem: Problem) -> float:
    """The least loss over every combination of rungs that meets the goals."""
    rungs = {tie: r for tie, r in problem.ladders.rungs.items() if len(r) > 1}
    return min(
        problem.losses.predict(levels)
        for choice in product(*rungs.values())
        if problem.meets(levels := dict(zip(rungs, choice, strict=True)))
    )


@dataclass(frozen=True)
class Weighted:
    """Prices that differ by unit: each weight matrix counts with a factor of its own in each."""

    sizes: tuple[int, ...]
    widths: tuple[int, ...]
    factors: dict[str, list[int]]

    def measure(self, removal: Removal) -> Figures:
        left = list(self.widths)
        for group, channels in removal.items():
            left[group + 1] -= len(channels) * self.widths[group + 1] // self.sizes[group]
        areas = [a * b for a, b in pairwise(left)]
        counts = {
            unit: sum(f * area for f, area in zip(factors, areas, strict=False))
            for unit, factors in self.factors.items()
        }
        return Figures(counts["memory"], counts["params"], counts["macs"], sops=counts["sops"])


@settings(max_examples=60, deadline=None)
@given(st.lists(small, min_size=1, max_size=4), goals, seeds)
def test_equals_brute_force(layers: list, save: dict, seed: int) -> None:
    graph, groups = chain_of(layers)
    random = np.random.default_rng(seed)
    meter = Weighted(
        tuple(g.size for g in groups),
        (3, *(h.size * groups[i].slots[0].index.shape[1] for i, h in enumerate(groups)), 5),
        {unit: random.choice([0, 1, 7, 40], 5).tolist() for unit in UNITS},
    )
    problem = posed(graph, groups, save, seed, meter=meter)
    try:
        solution = solve_optimal(problem)
    except BudgetError:
        assume(False)
    assert problem.meets(solution.levels)
    assert solution.exact
    assert solution.proven
    least = brute_force(problem)
    assert solution.loss == pytest.approx(least, rel=1e-5, abs=1e-12)
    assert solution.loss == pytest.approx(problem.losses.predict(solution.levels), rel=1e-12)
    assert solution.bound <= least * (1 + 1e-5) + 1e-12


@settings(max_examples=40, deadline=None)
@given(st.lists(large, min_size=1, max_size=6), counted, seeds, st.sampled_from([1, 1, 8]))
def test_meets_within_a_step_and_is_never_worse(
    layers: list, save: dict, seed: int, align: int
) -> None:
    graph, groups = chain(layers)
    problem = posed(graph, groups, save, seed, align=align)
    try:
        solution = solve_optimal(problem)
    except BudgetError:
        assume(False)
    levels = solution.levels
    assert problem.meets(levels)
    for tie, level in levels.items():
        rungs = problem.ladders.rungs[tie]
        assert level in rungs
        if level:
            assert not problem.meets({**levels, tie: rungs[rungs.index(level) - 1]})
    assert solution.bound <= solution.loss * (1 + 1e-5) or not solution.exact
    for name in ("uniform", "psvit", "primesvt"):
        other = METHODS[name](problem)
        assert solution.loss <= problem.losses.predict(other) * (1 + 1e-12)


def test_every_pair_that_shares_a_weight_overlaps_and_no_other() -> None:
    graph, groups = chain([Hidden(6), Hidden(5, cells=2), Hidden(4, fused=True), Hidden(3)])
    problem = pose(graph, groups, random_scores(groups), {"params": 0.1, "macs": 0.1})
    found = find_overlaps(problem)
    assert set(found) == {(0, 1), (1, 2), (2, 3)}
    whole = problem.before
    # a weight [10, 6] that loses 2 a level of one axis and 1 a level of the other
    assert found[0, 1]["macs"] == pytest.approx(2 / whole.macs)
    assert found[1, 2]["params"] == pytest.approx(2 * 2 / whole.params)
    assert found[2, 3]["params"] == pytest.approx(2 / whole.params)


def test_a_ladder_is_thinned_to_the_bends_and_refined_to_single_channels() -> None:
    graph, groups = chain([Hidden(512)])
    curves = random_curves(graph, groups, 3)
    problem = pose(graph, groups, random_scores(groups), {"params": 0.4}, curves=curves)
    thinned = thin(problem, {0: 77})
    assert len(thinned[0]) <= 12
    assert {0, 77, 511, 64, 128, 256, 384} <= set(thinned[0])
    finer = around(problem, {0: 128}, thinned)
    assert {0, 128, thinned[0][thinned[0].index(128) + 1]} < set(finer[0])
    finest = around(problem, {0: 128}, around(problem, {0: 128}, finer))
    assert {127, 128, 129} <= set(finest[0])


@pytest.mark.parametrize("method", ["psvit", "primesvt", "optimal"])
def test_a_method_without_curves_says_what_is_missing(method: str) -> None:
    graph, groups = chain([Hidden(6)])
    problem = pose(graph, groups, random_scores(groups), {"params": 0.3})
    with pytest.raises(OptionError, match=f"method '{method}' needs a sensitivity analysis"):
        METHODS[method](problem)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_out_of_reach_says_what_is_reachable(method: str) -> None:
    graph, groups = chain([Hidden(6), Hidden(9)])
    problem = posed(graph, groups, {"params": 0.999})
    with pytest.raises(BudgetError, match=r"of params: at most [\d.]+% is reachable"):
        METHODS[method](problem)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_all_that_can_go_can_be_asked_for(method: str) -> None:
    graph, groups = chain([Hidden(6), Hidden(9)])
    most = posed(graph, groups, {})
    reachable = most.saved(highest(most))["params"]
    assert METHODS[method](posed(graph, groups, {"params": reachable})) == {0: 5, 1: 8}


@pytest.mark.parametrize("method", sorted(METHODS))
def test_the_same_input_gives_the_same_levels(method: str) -> None:
    graph, groups = chain([Hidden(30), Hidden(20, 2), Hidden(25)])
    first, second = (METHODS[method](posed(graph, groups, {"memory": 0.3})) for _ in range(2))
    assert first == second
