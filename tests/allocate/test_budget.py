"""The budget is met, by at most one step more, with the same fraction taken from every group."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from psvit.allocate import METHODS, UNITS, Problem, choose, pose
from psvit.allocate.events import levels_after
from psvit.allocate.problem import floor_percent
from psvit.allocate.uniform import events
from psvit.cost import measure
from psvit.errors import BudgetError
from psvit.records import Graph, Groups
from tests.allocate.synthetic import Hidden, chain, chain_figures, random_scores

COUNTED = {unit: UNITS[unit] for unit in ("memory", "params", "macs")}

hidden = st.builds(
    Hidden,
    cell=st.integers(1, 12),
    cells=st.integers(1, 3),
    fused=st.booleans(),
    locked=st.sampled_from([None, None, None, "no reason"]),
)
chains = st.lists(hidden, min_size=1, max_size=5).map(chain)
goals = st.dictionaries(st.sampled_from(sorted(COUNTED)), st.floats(0.001, 0.95), min_size=1)


def solve(graph: Graph, groups: Groups, save: dict[str, float], **options: int) -> tuple:
    problem = pose(graph, groups, random_scores(groups), save, **options)
    return problem, METHODS["uniform"](problem)


def saved(graph: Graph, groups: Groups, problem: Problem, levels: dict[int, int]) -> dict:
    """Fractions saved, by slicing the weights by hand instead of by psvit.cost."""
    before = chain_figures(graph, groups, {})
    after = chain_figures(graph, groups, choose(groups, random_scores(groups), levels))
    return {unit: 1 - figure(after) / figure(before) for unit, figure in COUNTED.items()}


@settings(max_examples=150, deadline=None)
@given(chains, goals)
def test_met_and_not_overshot_by_more_than_one_step(model: tuple, save: dict) -> None:
    graph, groups = model
    try:
        problem, levels = solve(graph, groups, save)
    except BudgetError:
        assume(False)
    got = saved(graph, groups, problem, levels)
    assert all(got[unit] >= goal - 1e-12 for unit, goal in save.items())
    # one step back, on the tie that moved last, misses a goal
    order = events(problem)
    used = next(n for n in range(len(order) + 1) if levels_after(order[:n]) == levels)
    less = saved(graph, groups, problem, levels_after(order[: used - 1]))
    assert any(less[unit] < goal for unit, goal in save.items())
    last = order[used - 1][0]
    assert levels[last] - levels_after(order[: used - 1]).get(last, 0) == 1


@settings(max_examples=100, deadline=None)
@given(chains, st.floats(0.001, 0.95))
def test_every_group_gives_up_the_same_fraction(model: tuple, goal: float) -> None:
    graph, groups = model
    try:
        problem, levels = solve(graph, groups, {"params": goal})
    except BudgetError:
        assume(False)
    size = {tie: problem.ladders.cell[tie] for tie in problem.ladders.rungs}
    most = max(levels.get(tie, 0) / n for tie, n in size.items())
    for tie, n in size.items():
        level = levels.get(tie, 0)
        # the next channel would take this group past every other, unless it has to stay
        assert (level + 1) / n >= most - 1e-12 or level == n - 1
    assert all(levels.get(g.tie, 0) == 0 for g in groups if g.locked)


@settings(max_examples=60, deadline=None)
@given(chains, st.sampled_from(sorted(COUNTED)))
def test_what_is_called_reachable_is_reachable(model: tuple, unit: str) -> None:
    graph, groups = model
    with pytest.raises(BudgetError, match=r"at most [\d.]+% is reachable") as caught:
        solve(graph, groups, {unit: 0.9999999})
    printed = float(str(caught.value).split("at most ")[1].split("%")[0]) / 100
    if printed > 0:
        problem, levels = solve(graph, groups, {unit: printed})
        assert saved(graph, groups, problem, levels)[unit] >= printed - 1e-12
        with pytest.raises(BudgetError, match=unit):
            solve(graph, groups, {unit: printed + 0.0002})


@given(st.floats(0, 1))
@example(0.944)  # 94.4 / 100 is more
def test_a_share_that_is_printed_is_not_above_the_one_there_is(share: float) -> None:
    printed = float(floor_percent(share).removesuffix("%")) / 100
    assert share - 0.0001 - 1e-12 <= printed <= share


def test_the_unit_out_of_reach_is_the_one_named() -> None:
    graph, groups = chain([Hidden(8)], inputs=4, classes=4)
    # 64 weights and 12 biases; with 1 of 8 channels left 8 weights and 5 biases
    with pytest.raises(BudgetError, match=r"90\.00% of macs: at most 87\.50% is reachable"):
        solve(graph, groups, {"params": 0.1, "macs": 0.9})
    with pytest.raises(BudgetError, match=r"of params: at most 82\.89%"):
        solve(graph, groups, {"params": 0.83})


def test_nothing_to_prune_is_out_of_reach() -> None:
    graph, groups = chain([Hidden(8, locked="why")])
    with pytest.raises(BudgetError, match=r"at most 0\.00% is reachable"):
        solve(graph, groups, {"memory": 0.01})


def test_tied_groups_give_up_the_same_number_a_cell() -> None:
    graph, groups = chain([Hidden(6, tie=0), Hidden(6, cells=2, tie=0), Hidden(6)])
    _, levels = solve(graph, groups, {"params": 0.4})
    removal = choose(groups, random_scores(groups), levels)
    assert len(removal[1]) == 2 * len(removal[0]) > 0


def test_a_tie_with_a_locked_member_stays_whole() -> None:
    graph, groups = chain([Hidden(6, tie=0), Hidden(6, tie=0, locked="why"), Hidden(6)])
    _, levels = solve(graph, groups, {"params": 0.2})
    assert set(levels) == {2}


def test_min_keep_channels_stay_in_every_cell() -> None:
    graph, groups = chain([Hidden(6, cells=2), Hidden(3)])
    with pytest.raises(BudgetError) as caught:
        solve(graph, groups, {"params": 0.99}, min_keep=4)
    most = measure(graph, groups, choose(groups, random_scores(groups), {0: 2}))
    whole = measure(graph, groups, {})
    reachable = math.floor(1e4 * (1 - most.params / whole.params)) / 1e4
    assert f"{reachable:.2%}" in str(caught.value)


def test_the_lowest_scores_go_and_equal_ones_by_index() -> None:
    _, groups = chain([Hidden(4, cells=2)])
    scores = {0: torch.tensor([5.0, 1.0, 1.0, 1.0, 0.0, 9.0, 2.0, 2.0])}
    assert choose(groups, scores, {0: 2}) == {0: [1, 2, 4, 6]}


def test_the_same_input_gives_the_same_plan() -> None:
    graph, groups = chain([Hidden(7), Hidden(9, 2), Hidden(5, fused=True)])
    first, second = (solve(graph, groups, {"params": 0.3})[1] for _ in range(2))
    assert first == second
