"""Bounds on accuracy: held, or refused with what binds and what would fit."""

from __future__ import annotations

import re
from statistics import NormalDist

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from psvit.allocate import METHODS, Problem, allocate, pose
from psvit.allocate.bounds import hold_bound, read_bound, smallest_within
from psvit.allocate.events import highest
from psvit.allocate.losses import Losses
from psvit.errors import BudgetError, OptionError
from psvit.evaluate import drop_limit
from psvit.records import Removal
from tests.allocate.curves import curves_of
from tests.allocate.synthetic import Hidden, chain, random_scores

OPTIMAL = METHODS["optimal"]


def problem_of(save: dict, slope: float = 0.1) -> Problem:
    """Two layers of 20 and 30 channels; the second loses ten times what the first does."""
    graph, groups = chain([Hidden(20), Hidden(30)])

    def loss(tie: int, ratio: float) -> float:
        return slope * ratio * (10 if tie else 1)

    curves = curves_of(graph, groups, loss, loss)
    return pose(graph, groups, random_scores(groups), save, curves=curves)


def lost(problem: Problem, factor: float = 1.0):
    """Measures ``factor`` times what the curves predict, and counts how often it is asked."""

    def measure(removal: Removal, risk: float = 0.05) -> float:
        measure.calls += 1
        levels = {g: len(channels) for g, channels in removal.items()}
        return factor * problem.losses.predict_drop(levels)

    measure.calls = 0
    return measure


@settings(max_examples=25, deadline=None)
@given(st.floats(0.1, 0.5), st.floats(0.5, 2.5))
def test_the_smallest_model_within_holds_by_measurement(bound: float, factor: float) -> None:
    problem = problem_of({})
    measure = lost(problem, factor)
    levels = smallest_within(problem, METHODS["uniform"], bound, measure)
    assert measure(problem.removal(levels)) <= bound
    assert measure.calls <= 14


def test_the_smallest_model_cannot_be_much_smaller() -> None:
    problem, bound = problem_of({}), 0.15
    levels = smallest_within(problem, OPTIMAL, bound, None)
    saved = problem.saved(levels)["memory"]
    assert problem.losses.predict_drop(levels) <= bound
    most = problem.saved(highest(problem))["memory"]
    more = problem_of({"memory": saved + most / 64})
    assert more.losses.predict_drop(OPTIMAL(more)) > bound


def test_a_generous_bound_takes_everything() -> None:
    problem = problem_of({}, slope=0.05)
    assert smallest_within(problem, METHODS["uniform"], 1.0, None) == {0: 19, 1: 29}


def test_the_risks_of_all_attempts_add_up_to_no_more_than_was_allowed() -> None:
    risks = []

    def never(removal: Removal, risk: float) -> float:
        risks.append(risk)
        return 1.0

    with pytest.raises(BudgetError):
        smallest_within(problem_of({}), METHODS["uniform"], 0.1, never)
    assert len(risks) > 2
    assert risks == sorted(risks, reverse=True)
    assert sum(risks) <= 0.05
    risks.clear()
    problem = problem_of({"memory": 0.2})
    with pytest.raises(BudgetError):
        hold_bound(problem, OPTIMAL, 0.0, never, OPTIMAL(problem))
    assert risks[0] == 0.05  # one plan, one test


def test_a_bound_that_is_taken_to_hold_fails_as_rarely_as_it_says() -> None:
    """200 searches on images drawn anew, where the curves promise half of what is lost."""
    problem, bound, n = problem_of({}, slope=0.02), 0.1, 1000
    generator = torch.Generator().manual_seed(0)
    failed = found = 0
    for _ in range(200):
        hard = torch.rand(n, generator=generator)  # at which drop each image is lost

        def limit(removal: Removal, risk: float, hard: torch.Tensor = hard) -> float:
            dense = torch.ones(n, dtype=torch.bool)
            z = NormalDist().inv_cdf(1 - risk)
            return drop_limit(dense, hard >= lost(problem, 2.0)(removal), z)

        try:
            levels = smallest_within(problem, METHODS["uniform"], bound, limit)
        except BudgetError:
            continue
        found += 1
        failed += lost(problem, 2.0)(problem.removal(levels)) > bound
    assert found > 190
    assert failed <= 16  # 5 % are 10


def test_without_curves_measuring_alone_decides() -> None:
    graph, groups = chain([Hidden(20), Hidden(30)])
    known = problem_of({})
    problem = pose(graph, groups, random_scores(groups), {})
    measure = lost(known)
    levels = smallest_within(problem, METHODS["uniform"], 0.2, measure)
    assert 0.15 < known.losses.predict_drop(levels) <= 0.2


def test_a_bound_that_nothing_holds_says_the_least_found() -> None:
    problem = problem_of({})
    with pytest.raises(
        BudgetError, match=r"sure to lose at most 1\.00 points.*may lose up to 50\.00"
    ):
        smallest_within(problem, METHODS["uniform"], 0.01, lambda removal, risk: 0.5)


def test_budgets_beyond_the_bound_say_what_fits_and_that_does() -> None:
    problem, bound = problem_of({"memory": 0.6, "macs": 0.3}), 0.05
    with pytest.raises(BudgetError, match="the bound on accuracy binds") as caught:
        hold_bound(problem, OPTIMAL, bound, None, OPTIMAL(problem))
    assert "cannot save 60.00% of memory and 30.00% of macs within 5.00 points" in str(caught.value)
    fits = re.search(r"about ([\d.]+)% of memory, ([\d.]+)% of macs", str(caught.value))
    assert fits
    smaller = problem_of({"memory": float(fits[1]) / 100})
    levels = hold_bound(smaller, OPTIMAL, bound, None, OPTIMAL(smaller))
    assert smaller.losses.predict_drop(levels) <= bound


def test_within_the_bound_the_goals_decide() -> None:
    problem = problem_of({"memory": 0.2})
    levels = OPTIMAL(problem)
    assert hold_bound(problem, OPTIMAL, 0.5, lost(problem), levels) == levels


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_drop": 1.5}, "max_drop is 1.5, expected a fraction from 0 to 1"),
        ({"max_drop": -0.1}, "max_drop is -0.1"),
        ({"max_drop": float("nan")}, "max_drop is nan"),
        ({"min_accuracy": True}, "min_accuracy is True"),
        ({"min_accuracy": 0.95}, r"min_accuracy is 95.00%, above the 90.00% of the model before"),
        ({"min_accuracy": 0.5, "max_drop": 0.1}, "both given"),
    ],
)
def test_a_bound_that_means_nothing(options: dict, message: str) -> None:
    losses = Losses({}, {}, 0.9, {})
    with pytest.raises(OptionError, match=message):
        read_bound(losses, options.get("max_drop"), options.get("min_accuracy"))


def test_a_bound_on_accuracy_is_one_on_what_is_lost() -> None:
    assert read_bound(Losses({}, {}, 0.9, {}), None, 0.88) == pytest.approx(0.02)
    assert read_bound(None, 0.02, None) == 0.02
    assert read_bound(None, None, None) is None


@pytest.mark.parametrize("options", [{"max_drop": 0.01}, {"min_accuracy": 0.5}])
def test_a_bound_without_labels_is_refused(options: dict) -> None:
    graph, groups = chain([Hidden(20)])
    curves = curves_of(graph, groups, lambda _, r: r)
    with pytest.raises(OptionError, match="on data with labels"):
        allocate(graph, groups, random_scores(groups), {}, "optimal", curves=curves, **options)
