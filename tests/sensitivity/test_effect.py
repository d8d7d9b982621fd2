"""KL divergence, intervals and drifts, against formulas worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

import psvit
from psvit import outputs
from psvit.sensitivity import effect


def test_kl_by_hand() -> None:
    p = torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]])
    q = torch.tensor([[0.25, 0.25, 0.5], [0.125, 0.375, 0.5]])
    expected = [
        0.5 * math.log(2) + 0.25 * math.log(0.5),
        0.5 * math.log(4) + 0.25 * math.log(2 / 3) + 0.25 * math.log(0.5),
    ]
    got = outputs.kl_per_image(
        outputs.log_probabilities(p.log(), 2), outputs.log_probabilities(q.log(), 2)
    )
    assert got.tolist() == pytest.approx(expected, abs=1e-15)
    assert outputs.kl_per_image(p.log(), p.log()).tolist() == [0, 0]


def test_logits_of_every_shape() -> None:
    logits = torch.randn(4, 3, 5)
    mean = logits.mean(0).log_softmax(1)
    for output in (logits, (logits, None), [[logits]], logits.mean(0)):
        assert torch.allclose(outputs.log_probabilities(output, 3), mean)
    for output in (logits.mean(0)[:2], logits[0, 0], "logits", ()):
        with pytest.raises(psvit.ModelError, match="expected logits"):
            outputs.log_probabilities(output, 3)


def test_interval_of_a_mean_by_hand() -> None:
    mean, low, high = effect.mean_interval(torch.tensor([1.0, 2.0, 3.0, 6.0]))
    half = 1.959963984540054 * math.sqrt((4 + 1 + 0 + 9) / 3) / 2
    assert (mean, low, high) == (3.0, pytest.approx(3 - half), pytest.approx(3 + half))
    assert effect.mean_interval(torch.tensor([0.0, 1.0]))[1] == 0.0


def test_drift_is_a_mean_over_layers_of_absolute_change() -> None:
    dense = {"a": 0.5, "b": 0.2, "c": 0.1}
    assert effect.drift(dense, {"b": 0.1, "c": 0.3}) == pytest.approx(0.1)
    assert effect.drift({}, {}) == 0
