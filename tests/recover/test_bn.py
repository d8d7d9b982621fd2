"""Batch-norm re-estimation: exact averages, nothing else touched, bad input named."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from psvit.errors import DataError, ModelError, OptionError
from psvit.recover import recover


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(5, 4, 1)
    ).double()


def batches(count: int = 4) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(6, 3, 8, 8, generator=generator).double() for _ in range(count)]


def test_statistics_are_the_averages_over_all_batches() -> None:
    net = recover(model(), batches())
    inputs = [net[0](x) for x in batches()]
    mean = torch.stack([x.mean((0, 2, 3)) for x in inputs]).mean(0)
    var = torch.stack([x.var((0, 2, 3)) for x in inputs]).mean(0)
    torch.testing.assert_close(net[1].running_mean, mean, rtol=0, atol=1e-12)
    torch.testing.assert_close(net[1].running_var, var, rtol=0, atol=1e-12)


def test_weights_modes_and_momentum_stay() -> None:
    net = model().train()
    net[3].eval()
    weights = {k: v.clone() for k, v in net.named_parameters()}
    recover(net, batches())
    assert all(torch.equal(v, weights[k]) for k, v in net.named_parameters())
    assert [m.training for m in net] == [True, True, True, False, True]
    assert net[1].momentum == 0.1


def test_without_images_nothing_changes_and_the_reason_is_said() -> None:
    net = model()
    net[1].running_mean.fill_(0.3)
    with pytest.raises(DataError, match="no calibration images"):
        recover(net, [])
    assert bool((net[1].running_mean == 0.3).all())


def test_images_that_are_not_finite_leave_the_statistics_alone() -> None:
    net = model()
    net[1].running_mean.fill_(0.3)
    with pytest.raises(DataError, match="NaN"):
        recover(net, [torch.full((2, 3, 8, 8), float("nan")).double()])
    assert bool((net[1].running_mean == 0.3).all())


def test_a_model_without_batch_norm_is_named() -> None:
    with pytest.raises(ModelError, match="no batch norm"):
        recover(nn.Linear(3, 2), [torch.rand(2, 3)])


def test_an_unknown_method_lists_the_known_ones() -> None:
    with pytest.raises(OptionError, match="none, bn"):
        recover(model(), batches(), "magic")
