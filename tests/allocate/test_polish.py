"""Lifting meets every goal, and trimming leaves nothing that is not needed."""

from __future__ import annotations

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from psvit.allocate.events import highest
from psvit.allocate.polish import lift, trim
from tests.allocate.curves import posed
from tests.allocate.synthetic import Hidden, chain

hidden = st.builds(Hidden, st.integers(1, 12), st.integers(1, 2), st.booleans())
goals = st.dictionaries(st.sampled_from(["memory", "macs"]), st.floats(0.01, 0.8), min_size=1)


@settings(max_examples=50, deadline=None)
@given(st.lists(hidden, min_size=1, max_size=4), goals, st.integers(0, 999))
def test_up_until_met_and_down_until_needed(layers: list, save: dict, seed: int) -> None:
    graph, groups = chain(layers)
    problem = posed(graph, groups, save, seed)
    most = highest(problem)
    assume(problem.meets(most))
    for start in ({}, {tie: rung // 2 for tie, rung in most.items()}):
        lifted = lift(problem, start)
        assert problem.meets(lifted)
        assert all(lifted[tie] >= level for tie, level in start.items())
        if problem.meets(start):
            assert {t: k for t, k in lifted.items() if k} == {t: k for t, k in start.items() if k}
    for start in (most, lift(problem, {})):
        trimmed = trim(problem, start)
        assert problem.meets(trimmed)
        assert all(trimmed[tie] <= level for tie, level in start.items())
        for tie, level in trimmed.items():
            assert not level or not problem.meets({**trimmed, tie: level - 1})


def test_what_hurts_least_for_what_is_missing_goes_first() -> None:
    graph, groups = chain([Hidden(10), Hidden(10)], inputs=10, classes=10)
    problem = posed(graph, groups, {"macs": 0.3})
    losses = problem.losses.kl
    cheap = min((0, 1), key=lambda tie: losses[tie][1])
    lifted = lift(problem, {})
    first = lift(posed(graph, groups, {"macs": 0.01}), {})
    assert first[cheap] == 1
    assert sum(first.values()) == 1
    assert lifted[cheap] >= 1
