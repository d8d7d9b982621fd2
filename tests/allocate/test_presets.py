"""PSViT and PrimeSVT: budgets met within a step, and the order that their papers state."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from psvit.allocate import METHODS, pose
from psvit.allocate.events import memory_of_ties
from psvit.allocate.primesvt import accuracy_kept
from psvit.allocate.psvit import large_ties
from psvit.errors import BudgetError
from tests.allocate.curves import curves_of, posed
from tests.allocate.synthetic import Hidden, chain, random_scores

hidden = st.builds(Hidden, st.integers(1, 40), st.integers(1, 3), st.booleans())
layers = st.lists(hidden, min_size=1, max_size=5)
goals = st.dictionaries(st.sampled_from(["memory", "macs"]), st.floats(0.01, 0.9), min_size=1)


@pytest.mark.parametrize("method", ["psvit", "primesvt"])
@settings(max_examples=40, deadline=None)
@given(layers, goals, st.integers(0, 999), st.sampled_from([1, 4]))
def test_met_and_not_overshot_by_more_than_one_step(
    method: str, chained: list, save: dict, seed: int, align: int
) -> None:
    graph, groups = chain(chained)
    problem = posed(graph, groups, save, seed, align=align)
    try:
        levels = METHODS[method](problem)
    except BudgetError:
        assume(False)
    assert problem.meets(levels)
    rungs = problem.ladders.rungs
    assert all(level in rungs[tie] for tie, level in levels.items())
    # the tie that moved last is the one that is needed
    back = [{**levels, t: max(r for r in rungs[t] if r < k)} for t, k in levels.items() if k]
    assert any(not problem.meets(less) for less in back)


def wide_and_narrow() -> tuple:
    """Layers of 60, 60, 6 and 6 channels: the first two hold nearly all of the memory."""
    return chain([Hidden(60), Hidden(60), Hidden(6), Hidden(6)], inputs=20, classes=5)


def test_large_are_the_fewest_that_hold_half() -> None:
    assert large_ties({0: 0.1, 1: 0.5, 2: 0.4}) == {1}
    assert large_ties({0: 0.3, 1: 0.3, 2: 0.4}) == {2, 0}
    assert large_ties({}) == set()


def test_psvit_first_prunes_large_layers_alike_then_insensitive_ones_by_memory() -> None:
    graph, groups = wide_and_narrow()
    kl = {0: 1.0, 1: 1e-7, 2: 1e-7, 3: 1.0}
    curves = curves_of(graph, groups, lambda tie, ratio: kl[tie] * ratio)
    problem = pose(graph, groups, random_scores(groups), {"memory": 0.6}, curves=curves)
    assert large_ties(memory_of_ties(problem)) == {0} or large_ties(memory_of_ties(problem)) == {1}
    levels = METHODS["psvit"](problem)
    large = next(iter(large_ties(memory_of_ties(problem))))
    assert levels[large] > 0
    # of the two insensitive layers the large one goes, and nothing is asked of the others
    assert levels[1] > 30
    assert levels.get(2, 0) == levels.get(3, 0) == 0


def test_psvit_goes_further_where_it_hurts_least() -> None:
    graph, groups = wide_and_narrow()
    for robust, frail in ((0, 1), (1, 0)):
        kl = {robust: 1e-3, frail: 1.0, 2: 1.0, 3: 1.0}
        curves = curves_of(graph, groups, lambda tie, ratio, kl=kl: kl[tie] * ratio)
        problem = pose(graph, groups, random_scores(groups), {"memory": 0.5}, curves=curves)
        levels = METHODS["psvit"](problem)
        assert levels[robust] > levels.get(frail, 0)


def test_primesvt_starts_with_the_largest_layer() -> None:
    graph, groups = wide_and_narrow()
    curves = curves_of(graph, groups, lambda _, r: r, lambda _, r: 0.1 * r)
    problem = pose(graph, groups, random_scores(groups), {"memory": 0.05}, curves=curves)
    largest = next(iter(memory_of_ties(problem)))
    levels = METHODS["primesvt"](problem)
    assert [tie for tie, level in levels.items() if level] == [largest]


def test_primesvt_is_gated_by_what_a_layer_loses() -> None:
    graph, groups = wide_and_narrow()
    for frail in (0, 1):
        curves = curves_of(
            graph, groups, lambda _, r: r, lambda tie, r, f=frail: 0.6 * r if tie == f else 0.01 * r
        )
        problem = pose(graph, groups, random_scores(groups), {"memory": 0.4}, curves=curves)
        levels = METHODS["primesvt"](problem)
        assert levels.get(frail, 0) < levels[1 - frail]


def test_without_labels_kl_stands_in_for_accuracy() -> None:
    graph, groups = wide_and_narrow()
    labelled = curves_of(graph, groups, lambda _, r: r, lambda _, r: 0.45 * r, accuracy=0.9)
    free = curves_of(graph, groups, lambda _, r: r)
    scores = random_scores(groups)
    kept = accuracy_kept(pose(graph, groups, scores, {"memory": 0.4}, curves=labelled))
    assert kept[0][30] == pytest.approx(1 - 0.45 * 0.5 / 0.9)
    kept = accuracy_kept(pose(graph, groups, scores, {"memory": 0.4}, curves=free))
    assert kept[0][30] == pytest.approx(2.718281828**-0.5)
