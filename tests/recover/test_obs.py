"""Compensation of a cut model: the dense weights' solution, cut; nothing where nothing went."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import psvit
from psvit.calibrate import Compensator
from psvit.errors import DataError
from psvit.groups import make_plan
from psvit.recover import Origin, recover
from psvit.rewrite import rewrite
from tests.calibrate.nets import Mixed, Ready, Spikes, ready
from tests.calibrate.test_compensate import outputs, pruned


def origin(net: Ready, removal: dict[int, list[int]]) -> Origin:
    dense = Compensator(net.graph, net.groups, net.consumers, net.moments)
    return Origin(net.graph, net.groups, make_plan(net.graph, net.groups, removal), dense)


@pytest.mark.parametrize("build", [Spikes, Mixed])
def test_the_cut_model_is_the_compensated_model_cut(build: type[nn.Module]) -> None:
    net = ready(build, channels=2 if build is Spikes else 3)
    removal = {
        g.id: [cell[i % len(cell)] for i, cell in enumerate(g.cells)] for g in net.groups.prunable
    }
    source = origin(net, removal)
    assert source.dense is not None
    small = recover(rewrite(net.graph, source.plan), net.images, "obs", source)
    expected = pruned(net, removal, source.dense.values(removal))
    torch.testing.assert_close(outputs(small, net), outputs(expected, net), rtol=0, atol=1e-9)
    plain = rewrite(net.graph, source.plan)
    assert float((outputs(plain, net) - outputs(small, net)).abs().max()) > 1e-3


@pytest.mark.parametrize("build", [Spikes, Mixed])
def test_an_empty_plan_changes_nothing_bit_for_bit(build: type[nn.Module]) -> None:
    net = ready(build, channels=2 if build is Spikes else 3)
    small = recover(rewrite(net.graph, origin(net, {}).plan), net.images, "obs", origin(net, {}))
    before = net.model.state_dict()
    assert all(torch.equal(v, before[k]) for k, v in small.state_dict().items())


def test_the_constant_is_what_re_estimating_the_mean_would_find() -> None:
    net = ready(Spikes, channels=2)
    source = origin(net, {net.group("first.0.weight:0").id: [0, 3, 7]})
    small = recover(rewrite(net.graph, source.plan), net.images, "obs", source)
    (part,) = net.moments.parts["second.0.weight"]
    kept = ~net.consumer("second.0").lost(source.removal)[0]
    before, after = net.model.state_dict(), small.state_dict()
    dense = before["second.0.weight"].flatten(1) @ part.mean[0]
    now = after["second.0.weight"].flatten(1) @ part.mean[0][kept]
    moved = after["second.1.running_mean"] - before["second.1.running_mean"]
    torch.testing.assert_close(moved, now - dense, rtol=0, atol=1e-12)


def test_pruning_with_compensation_needs_no_labels_and_leaves_the_model_alone() -> None:
    net = ready(Spikes, channels=2)
    before = {k: v.clone() for k, v in net.model.state_dict().items()}
    result = psvit.prune(
        net.model,
        net.images[0],
        {"params": 0.3},
        saliency="obs",
        data=net.images,
        recover="obs",
    )
    assert all(torch.equal(v, before[k]) for k, v in net.model.state_dict().items())
    assert result.control is not None
    assert all(torch.equal(v, before[k]) for k, v in result.control.state_dict().items())
    assert result.settings["recover"] == "obs"
    plain = psvit.prune(net.model, net.images[0], {"params": 0.3}, saliency="obs", data=net.images)
    assert result.plan.keep == plain.plan.keep
    dense = outputs(net.model, net)
    errors = [
        float((outputs(model, net) - dense).square().mean())
        for model in (result.model, plain.model)
    ]
    assert errors[0] < errors[1]


def test_images_that_are_not_finite_leave_the_model_alone() -> None:
    net = ready(Spikes, channels=2)
    plan = origin(net, {net.group("first.0.weight:0").id: [0]}).plan
    small = rewrite(net.graph, plan)
    before = {k: v.clone() for k, v in small.state_dict().items()}
    bad: list[Tensor] = [torch.full((2, 2, 6, 6), float("nan")).double()]
    with pytest.raises(DataError, match="NaN"):
        recover(small, bad, "obs", Origin(net.graph, net.groups, plan))
    assert all(torch.equal(v, before[k]) for k, v in small.state_dict().items())
