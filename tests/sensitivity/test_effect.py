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
    mean, low, high = effect.mean_interval(torch.tensor([1.0, 2.0, 3.0, 6.0]).double())
    deviation, skewness = math.sqrt((4 + 1 + 0 + 9) / 3), (-8 - 1 + 0 + 27) / 4 / (14 / 3) ** 1.5

    def hall(w: float) -> float:
        inside = 1 + skewness * (w / 2 - skewness / 24)
        return 6 / skewness * (math.copysign(abs(inside) ** (1 / 3), inside) - 1)

    t = 3.182446305284263  # 97.5 %, 3 degrees of freedom
    assert mean == 3.0
    assert low == pytest.approx(max(0, 3 - hall(t) * deviation / 2))
    assert high == pytest.approx(3 - hall(-t) * deviation / 2)
    assert effect.mean_interval(torch.tensor([0.0, 1.0]))[1] == 0.0
    assert effect.mean_interval(torch.zeros(9)) == (0, 0, 0)


def test_interval_of_what_is_not_skewed_is_students() -> None:
    mean, low, high = effect.interval(torch.tensor([-1.0, 0.0, 1.0, 0.0]).double())
    half = 3.182446305284263 * math.sqrt(2 / 3) / 2
    assert (mean, low, high) == (0, pytest.approx(-half), pytest.approx(half))


def test_the_interval_covers_the_mean_of_skewed_values_where_students_does_not() -> None:
    values = torch.distributions.LogNormal(0.0, 1.5).sample((3000, 32))
    true = math.exp(1.5**2 / 2)
    own = student = 0
    for some in values:
        _, low, high = effect.interval(some)
        own += low <= true <= high
        student += abs(float(some.mean()) - true) <= 2.04 * float(some.std()) / math.sqrt(32)
    assert own / 3000 > student / 3000 + 0.05
    assert own / 3000 > 0.85


def test_drift_is_a_mean_over_layers_of_absolute_change() -> None:
    dense = {"a": 0.5, "b": 0.2, "c": 0.1}
    assert effect.drift(dense, {"b": 0.1, "c": 0.3}) == pytest.approx(0.1)
    assert effect.drift({}, {}) == 0
