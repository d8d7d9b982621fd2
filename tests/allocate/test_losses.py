"""What curves predict: 0 for the dense model, rising, and exactly what was measured if it rises."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psvit.allocate import build_ladders, pose
from psvit.allocate.losses import read_losses
from psvit.errors import OptionError
from psvit.records import Curves, Graph, Groups
from tests.allocate.curves import RATIOS, curves_of
from tests.allocate.synthetic import Hidden, chain, random_scores

measured = st.lists(
    st.floats(-0.1, 5, allow_subnormal=False), min_size=len(RATIOS), max_size=len(RATIOS)
)


def one_curve(values: list[float]) -> tuple[Graph, Groups, Curves]:
    """A chain of one layer of 40 channels with these losses at RATIOS, as KL and as drop."""
    graph, groups = chain([Hidden(40)])
    of = dict(zip(RATIOS, values, strict=True))
    return graph, groups, curves_of(graph, groups, lambda _, r: of[r], lambda _, r: of[r])


@settings(max_examples=60, deadline=None)
@given(measured)
def test_curves_rise_from_0_and_keep_what_rises(values: list[float]) -> None:
    graph, groups, curves = one_curve(values)
    losses = read_losses(curves, groups, build_ladders(graph, groups))
    kl = losses.kl[0]
    assert len(kl) == 41
    assert kl[0] == 0
    assert (np.diff(kl) >= -1e-12).all()
    at = [round(r * 40) for r in RATIOS]
    if values == sorted(values) and values[0] >= 0:
        assert kl[at] == pytest.approx(values)
    # pooling keeps the mean of what was measured, unless that was below 0
    if min(np.cumsum(values)) >= 0:
        assert kl[at].mean() == pytest.approx(np.mean(values), abs=1e-9)
    assert losses.drop is not None
    assert losses.drop[0] == pytest.approx(kl)


def test_between_measurements_it_runs_straight_and_beyond_them_steepest() -> None:
    graph, groups, curves = one_curve([0.5, 1.0, 5.0, 5.0, 5.0])  # at 5, 10, 20, 30 and 36
    losses = read_losses(curves, groups, build_ladders(graph, groups))
    assert losses.kl[0][[2, 7, 15, 25]] == pytest.approx([0.2, 0.7, 3.0, 5.0])
    assert losses.kl[0][39] == pytest.approx(5 + 3 * 0.4)
    assert losses.predict({0: 15}) == pytest.approx(3.0)
    assert losses.predict_drop({0: 15}) == pytest.approx(3.0)
    assert losses.scaled({0: 2.0}).predict({0: 15}) == pytest.approx(6.0)


def test_what_is_measured_beyond_replaces_the_guess() -> None:
    graph, groups, curves = one_curve([0.5, 1.0, 5.0, 5.0, 5.0])  # at 5, 10, 20, 30 and 36
    guess = read_losses(curves, groups, build_ladders(graph, groups))
    assert guess.known_to == {0: 36}
    cliff = guess.measured(0, 38, 11.0)
    assert cliff.known_to == {0: 38}
    assert cliff.kl[0][:37] == pytest.approx(guess.kl[0][:37])
    assert cliff.kl[0][[37, 38, 39]] == pytest.approx([8.0, 11.0, 14.0])
    flat = guess.measured(0, 38, 2.0)  # never less than before
    assert flat.kl[0][[37, 38, 39]] == pytest.approx([5.0, 5.0, 5.4])
    with pytest.raises(ValueError, match="level 38 of tie 0 is known"):
        cliff.measured(0, 38, 1.0)


def test_without_labels_no_drop_is_predicted() -> None:
    graph, groups = chain([Hidden(40)])
    curves = curves_of(graph, groups, lambda _, r: r)
    losses = read_losses(curves, groups, build_ladders(graph, groups))
    assert losses.drop is None
    assert losses.predict_drop({0: 3}) is None


def test_a_group_without_a_curve_is_named() -> None:
    graph, groups = chain([Hidden(8), Hidden(9)])
    curves = curves_of(graph, groups, lambda _, r: r)
    part = replace(curves, points=tuple(p for p in curves.points if p.tie == 0))
    with pytest.raises(OptionError, match="has no curve for layer 1: run it again"):
        pose(graph, groups, random_scores(groups), {"params": 0.1}, curves=part)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_is_refused(bad: float) -> None:
    graph, groups = chain([Hidden(8)])
    curves = curves_of(graph, groups, lambda _, r: bad if r > 0.6 else r)
    with pytest.raises(OptionError, match="expected a number for each ratio"):
        pose(graph, groups, random_scores(groups), {"params": 0.1}, curves=curves)


def test_curves_of_another_model_are_refused() -> None:
    graph, groups = chain([Hidden(8)])
    curves = replace(curves_of(graph, groups, lambda _, r: r), fingerprint="another")
    with pytest.raises(OptionError, match=r"belongs to another model \(fingerprint another"):
        pose(graph, groups, random_scores(groups), {"params": 0.1}, curves=curves)
