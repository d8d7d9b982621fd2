"""Batch-norm re-estimation: exact averages, nothing else touched, bad input named."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import psvit
from psvit.errors import DataError, ModelError, OptionError
from psvit.recover import calibration_images, check_recovery, recover


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


def test_calibration_images_are_whole_batches_up_to_a_number() -> None:
    data = [(torch.full((4, 1), i), torch.zeros(4)) for i in range(5)] + [(torch.zeros(2, 1), 0)]
    assert [int(b[0, 0]) for b in calibration_images(data, most=9)] == [0, 1, 2]
    assert len(calibration_images(data, most=1000)) == 5


def test_recovery_without_data_says_what_is_missing() -> None:
    with pytest.raises(OptionError, match="--data DATA"):
        check_recovery("bn", None)


def test_pruning_with_recovery_also_recovers_a_control_and_leaves_the_model_alone() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(2)).eval()
    net.append(nn.AdaptiveAvgPool1d(1)).append(nn.Flatten()).append(nn.Linear(8, 4))
    images = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    result = psvit.prune(net, images, {"params": 0.2}, data=[images], recover="bn")
    assert result.control is not None
    mean = net[0](images).mean((0, 2, 3))
    torch.testing.assert_close(result.control[1].running_mean, mean)
    assert bool((net[1].running_mean == 0).all())
    kept = list(result.plan.keep["0.weight"]["0"])
    torch.testing.assert_close(result.model.state_dict()["1.running_mean"], mean[kept])
