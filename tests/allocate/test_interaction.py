"""Correcting for interaction: never worse than any plan it starts from, by what is measured."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psvit.allocate import METHODS, allocate, pose
from psvit.allocate.interaction import (
    BEYOND,
    NEAR_END,
    PROBES,
    ROUNDS,
    SWAPS,
    TIES,
    _Known,
    at_stake,
    correct,
    near,
    probed,
)
from psvit.allocate.polish import trim
from psvit.allocate.swaps import swaps
from psvit.records import Removal
from tests.allocate.curves import curves_of
from tests.allocate.synthetic import Hidden, chain, random_scores

OPTIMAL = METHODS["optimal"]
RIVALS = [METHODS[name] for name in ("uniform", "psvit", "primesvt")]


def most(rivals: int) -> tuple[int, int]:
    """Plans that may be measured and judged."""
    starts = 2 + rivals
    return starts + PROBES + ROUNDS * (2 * TIES + SWAPS + 1), starts + ROUNDS * (SWAPS + 1)


def three_layers(goal: float = 0.5, slope: tuple[float, ...] = (1.0, 1.0, 1.5)):
    """A problem of three layers of 20 channels, whose curves are straight."""
    graph, groups = chain([Hidden(20), Hidden(20), Hidden(20)])
    curves = curves_of(graph, groups, lambda tie, ratio: slope[tie] * ratio)
    return pose(graph, groups, random_scores(groups), {"params": goal}, curves=curves)


def shares(removal: Removal) -> list[float]:
    """The share of each layer that goes."""
    return [len(removal.get(tie, ())) / 20 for tie in range(3)]


def test_interaction_that_curves_do_not_see_is_corrected() -> None:
    """The second layer hurts far more than its curve says."""
    problem, asked = three_layers(), []

    def joint(removal: Removal) -> float:
        asked.append(removal)
        one, two, three = shares(removal)
        return one + 21 * two + 1.5 * three

    plain = OPTIMAL(problem)
    better = correct(problem, OPTIMAL, joint)
    assert problem.meets(better)
    assert len(asked) <= most(0)[0]
    assert joint(problem.removal(better)) < 0.9 * joint(problem.removal(plain))


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.2, 0.5, 0.7]))
def test_it_loses_no_more_than_any_method_and_asks_nothing_twice(seed: int, goal: float) -> None:
    random = np.random.default_rng(seed)
    problem = three_layers(goal, tuple(random.uniform(0.1, 2, 3)))
    pairs, power = random.uniform(-1, 6, (3, 3)), random.uniform(0.5, 3)
    asked: list[str] = []

    def joint(removal: Removal) -> float:
        asked.append(repr({g: tuple(c) for g, c in removal.items()}))
        share = np.array(shares(removal)) ** power
        return float(share.sum() + share @ pairs @ share)

    levels = correct(problem, OPTIMAL, joint, RIVALS)
    assert len(asked) == len(set(asked)) <= most(3)[0]
    assert problem.meets(levels)
    lost = joint(problem.removal(levels))
    assert lost <= min(joint(problem.removal(m(problem))) for m in (OPTIMAL, *RIVALS)) + 1e-12


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000))
def test_moves_that_were_lucky_are_seen_through(seed: int) -> None:
    """Measured on few images, so with noise; judged by what is true."""
    random = np.random.default_rng(seed)
    problem = three_layers(0.5, tuple(random.uniform(0.1, 2, 3)))
    judged: list[float] = []

    def truth(removal: Removal) -> float:
        share = np.array(shares(removal))
        judged.append(float(share.sum() + 3 * share.prod()))
        return judged[-1]

    def lucky(removal: Removal) -> float:
        share = np.array(shares(removal))
        return float(share.sum() + 3 * share.prod() + random.normal(0, 0.5))

    levels = correct(problem, OPTIMAL, lucky, RIVALS, judge=truth)
    assert len(judged) <= most(len(RIVALS))[1]
    least = min(judged)
    assert truth(problem.removal(levels)) == least
    assert least <= min(truth(problem.removal(m(problem))) for m in (OPTIMAL, *RIVALS))


def test_allocate_corrects_by_what_it_is_given() -> None:
    graph, groups = chain([Hidden(20), Hidden(20), Hidden(20)])
    curves, scores = curves_of(graph, groups, lambda _, ratio: ratio), random_scores(groups)

    def lost_by(gone: list[float]) -> float:
        return 10 * max(gone) + gone[0]  # the evener the better: uniform is near the best

    plans = {
        name: allocate(graph, groups, scores, {"params": 0.5}, name, curves=curves)
        for name in METHODS
    }
    plans["corrected"] = allocate(
        graph, groups, scores, {"params": 0.5}, "optimal", curves=curves,
        measure_loss=lambda removal: lost_by(shares(removal)),
    )  # fmt: skip
    lost = {
        name: lost_by([1 - width.after / width.before for width in plan.widths[:3]])
        for name, plan in plans.items()
    }
    assert lost["corrected"] == min(lost.values()) < lost["optimal"]


def test_a_correction_that_does_not_help_is_dropped() -> None:
    problem = three_layers()
    plain = {tie: level for tie, level in OPTIMAL(problem).items() if level}
    tried = []

    def joint(removal: Removal) -> float:
        levels = {g: len(c) for g, c in removal.items()}
        tried.append(levels)
        return 0.0 if levels == plain else 5.0

    better = correct(problem, OPTIMAL, joint, RIVALS)
    assert len(tried) > 8
    assert {tie: level for tie, level in better.items() if level} == plain


def test_near_a_plan_the_curves_say_what_was_measured_and_beyond_they_are_steep() -> None:
    problem = three_layers()
    levels = {0: 10, 1: 0, 2: 19}

    def joint(removal: Removal) -> float:
        one, two, three = shares(removal)
        return one**2 + two + three + one * three

    known = _Known(problem, joint)
    losses = near(problem, levels, known, 0.25)
    here = known.loss(levels)
    for tie, rung in ((0, 5), (0, 15), (1, 5), (2, 14)):
        moved = known.loss({**levels, tie: rung})
        kl = losses.kl[tie]
        assert kl[rung] - kl[levels[tie]] == moved - here
    assert losses.kl[0][3] == losses.kl[0][5] == 0  # below, nothing is promised
    step = losses.kl[0][15] - losses.kl[0][14]
    assert losses.kl[0][17] - losses.kl[0][16] >= BEYOND * step * 0.99
    for kl in losses.kl.values():
        assert (np.diff(kl) >= 0).all()


def cliff(removal: Removal) -> float:
    """Two layers that cost what they did up to 18 of 20 channels, and then all."""
    one, two, three = shares(removal)
    return 0.1 * one + 0.2 * two + 3 * three + 5 * (one > 0.9) + 5 * (two > 0.9)


def test_curves_are_measured_as_far_as_the_plan_goes() -> None:
    """They end at 90 %, and nothing before tells of what comes then."""
    problem = three_layers(0.75, (0.1, 0.2, 3.0))
    plain = OPTIMAL(problem)
    assert max(plain[0], plain[1]) == 19
    known = _Known(problem, cliff)
    farther = probed(problem, OPTIMAL, known)
    levels = OPTIMAL(farther)
    assert farther.losses is not None
    assert all(level <= farther.losses.known_to[tie] for tie, level in levels.items())
    assert 0 < len(known.losses) <= PROBES
    assert cliff(problem.removal(levels)) < cliff(problem.removal(plain)) - 4


def test_a_curve_is_followed_by_halves() -> None:
    graph, groups = chain([Hidden(200), Hidden(200)])
    curves = curves_of(graph, groups, lambda tie, r: r * (1 + 99 * tie), ratios=(0.25,))
    problem = pose(graph, groups, random_scores(groups), {"params": 0.6}, curves=curves)
    asked = []

    def falls_off(removal: Removal) -> float:
        gone = {tie: len(channels) / 200 for tie, channels in removal.items()}
        asked.append(gone)
        return gone.get(0, 0) + 500 * max(gone.get(0, 0) - 0.9, 0) + 100 * gone.get(1, 0)

    farther = probed(problem, OPTIMAL, _Known(problem, falls_off))
    first = [gone[0] for gone in asked if set(gone) == {0}]
    assert first == sorted(first)
    goal = OPTIMAL(problem)[0] / 200
    assert first[0] == pytest.approx((0.25 + goal) / 2, abs=0.005)
    end = OPTIMAL(farther)[0] / 200
    assert farther.losses is not None
    assert end <= farther.losses.known_to[0] / 200 <= 0.9 + NEAR_END


def test_swaps_find_what_moves_alone_do_not() -> None:
    """One layer costs by how much it has in common with another, so each move alone is dear."""
    problem = three_layers(0.5, (1.0, 1.0, 1.0))

    def joint(removal: Removal) -> float:
        one, two, three = shares(removal)
        return abs(one - two - 0.3) + 0.2 * three + one + two

    with_swaps = joint(problem.removal(correct(problem, OPTIMAL, joint)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(correct.__globals__, "SWAPS", 0)
        without = joint(problem.removal(correct(problem, OPTIMAL, joint)))
    assert with_swaps < without


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.3, 0.6]), st.sampled_from([0.05, 0.25]))
def test_swaps_meet_the_goals_with_more_of_one_tie(seed: int, goal: float, radius: float) -> None:
    random = np.random.default_rng(seed)
    problem = three_layers(goal, tuple(random.uniform(0.1, 2, 3)))
    losses = problem.losses
    assert losses is not None
    levels = OPTIMAL(problem)
    plans = list(swaps(problem, levels, [0, 1, 2], radius))
    for more, plan in plans:
        assert problem.meets(plan)
        assert trim(problem, plan) == plan
        raised = [tie for tie in range(3) if plan[tie] > levels[tie]]
        assert set(raised) <= {more}
        assert plan[more] - levels[more] <= max(1, round(radius * 20))
    if max(levels.values()) < 19 and min(levels.values()) > 0:
        assert plans


def test_of_many_ties_those_at_stake_are_moved() -> None:
    graph, groups = chain([Hidden(8 + i) for i in range(20)])
    curves = curves_of(graph, groups, lambda tie, ratio: tie * ratio)
    problem = pose(graph, groups, random_scores(groups), {"params": 0.4}, curves=curves)
    ties = at_stake(problem, OPTIMAL(problem))
    assert len(ties) == len(set(ties)) == TIES
