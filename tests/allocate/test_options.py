"""Budgets, methods and scores that mean nothing get one clear line."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from psvit.allocate import allocate, choose, pose
from psvit.allocate.budgets import Amount, Share, read_budgets
from psvit.errors import BudgetError, OptionError
from tests.allocate.synthetic import Hidden, chain, random_scores

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "fraction", [0, 1, 0.0, 1.0, -0.1, NAN, INF, -INF, 22.4, "1.2", "0%", None, True]
)
def test_a_fraction_outside_0_and_1(fraction: object) -> None:
    with pytest.raises(OptionError, match=r"the budget for memory is .*the fraction to save"):
        read_budgets({"memory": fraction})


def test_a_percentage_is_recognised() -> None:
    with pytest.raises(OptionError, match=r"\(for 22\.4 % give 0\.224\)"):
        read_budgets({"memory": 22.4})


@pytest.mark.parametrize("fraction", [0.25, np.float32(0.25), np.float64(0.25), Fraction(1, 4)])
def test_any_real_number_is_a_fraction(fraction: object) -> None:
    assert read_budgets({"macs": fraction}) == {"macs": Share(0.25)}


def test_an_unknown_unit_lists_the_known_ones() -> None:
    with pytest.raises(OptionError, match="'flops', expected one of memory, params, macs"):
        read_budgets({"flops": 0.2})


def test_no_budget_at_all() -> None:
    graph, groups = chain([Hidden(4)])
    with pytest.raises(OptionError, match="no budget was given"):
        allocate(graph, groups, random_scores(groups), {})


@pytest.mark.parametrize(
    ("unit", "text", "figure"),
    [
        ("memory", "1.2MB", 1.2e6),
        ("memory", " 3 KiB ", 3072),
        ("memory", "500kB", 5e5),
        ("memory", "17B", 17),
        ("params", "300k", 3e5),
        ("macs", "5M", 5e6),
        ("sops", "1.5G", 1.5e9),
        ("energy", "20uJ", 2e7),
        ("energy", "20 µJ", 2e7),
        ("energy", "3e-2mJ", 3e7),
    ],
)
def test_an_amount_is_read_with_its_unit(unit: str, text: str, figure: float) -> None:
    assert read_budgets({unit: text}) == {unit: Amount(pytest.approx(figure), text.strip())}


@pytest.mark.parametrize(("text", "share"), [("22.4%", 0.224), ("0.224", 0.224), ("1e-1", 0.1)])
def test_text_may_be_a_share(text: str, share: float) -> None:
    assert read_budgets({"energy": text}) == {"energy": Share(pytest.approx(share))}


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        ("params", "3MB"),
        ("memory", "3M"),
        ("macs", "5m"),
        ("energy", "20W"),
        ("memory", "MB"),
        ("memory", "-1MB"),
        ("params", "0k"),
        ("memory", "1 2MB"),
        ("memory", "nan"),
        ("memory", ""),
    ],
)
def test_an_amount_that_means_nothing(unit: str, text: str) -> None:
    with pytest.raises(OptionError, match=f"the budget for {unit} is {text!r}, expected"):
        read_budgets({unit: text})


def test_an_amount_is_the_share_it_is_of_the_whole() -> None:
    graph, groups = chain([Hidden(20), Hidden(30)])
    scores = random_scores(groups)
    params = 3 * 20 + 20 + 20 * 30 + 30 + 30 * 5 + 5
    problem = pose(graph, groups, scores, {"memory": "1kB", "params": "0.3k"})
    assert problem.goals == {"memory": 1000 / (4 * params), "params": 300 / params}
    assert problem.meets({0: 10}) == (10 * (3 + 1 + 30) >= 300)
    assert not problem.meets({0: 8})
    with pytest.raises(BudgetError, match=r"cannot save 9kB of memory: the whole model has 3,460"):
        pose(graph, groups, scores, {"memory": "9kB"})


@pytest.mark.parametrize("unit", ["sops", "energy"])
def test_a_budget_in_spikes_needs_firing_rates(unit: str) -> None:
    graph, groups = chain([Hidden(20)])
    with pytest.raises(OptionError, match=f"a budget in {unit} needs the firing rates"):
        allocate(graph, groups, random_scores(groups), {unit: 0.1})


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
