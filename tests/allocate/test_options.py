"""Budgets, methods and scores that mean nothing get one clear line."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from psvit.allocate import allocate, choose
from psvit.allocate.problem import check_goals
from psvit.errors import OptionError
from tests.allocate.synthetic import Hidden, chain, random_scores

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "fraction", [0, 1, 0.0, 1.0, -0.1, NAN, INF, -INF, 22.4, "0.2", None, True]
)
def test_a_fraction_outside_0_and_1(fraction: object) -> None:
    with pytest.raises(OptionError, match=r"the budget for memory is .*the fraction to save"):
        check_goals({"memory": fraction})


def test_a_percentage_is_recognised() -> None:
    with pytest.raises(OptionError, match=r"\(for 22\.4 % give 0\.224\)"):
        check_goals({"memory": 22.4})


@pytest.mark.parametrize("fraction", [0.25, np.float32(0.25), np.float64(0.25), Fraction(1, 4)])
def test_any_real_number_is_a_fraction(fraction: object) -> None:
    assert check_goals({"macs": fraction}) == {"macs": 0.25}


def test_an_unknown_unit_lists_the_known_ones() -> None:
    with pytest.raises(OptionError, match="'flops', expected one of memory, params, macs"):
        check_goals({"flops": 0.2})


def test_no_budget_at_all() -> None:
    with pytest.raises(OptionError, match="no budget was given"):
        check_goals({})


def test_an_unknown_method_lists_the_known_ones() -> None:
    graph, groups = chain([Hidden(4)])
    with pytest.raises(OptionError, match="'best', expected one of uniform"):
        allocate(graph, groups, random_scores(groups), {"memory": 0.2}, method="best")


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({}, "layer 0 has 4 channels but its scores are none"),
        ({0: torch.rand(5)}, r"has 4 channels but its scores are shape \[5\]"),
        ({0: torch.tensor([1.0, NAN, 1.0, 1.0])}, "a score of group layer 0 is NaN"),
    ],
)
def test_scores_that_do_not_fit(scores: dict, message: str) -> None:
    graph, groups = chain([Hidden(4)])
    with pytest.raises(OptionError, match=message):
        choose(groups, scores, {0: 1})
    with pytest.raises(OptionError, match=message):
        allocate(graph, groups, scores, {"memory": 0.2})
