"""Compensation: exact where the kept channels can tell, never worse than none, nothing for free."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from psvit.calibrate import can_lose, compensate, refit
from psvit.calibrate.compensate import MOST_GAIN
from psvit.groups import make_plan
from psvit.records import Removal
from psvit.rewrite import zeroed
from tests.calibrate.nets import Mixed, Ready, Spikes, ready
from tests.zoo.wake import reset

EXACT = 1e-13
"""A ridge that leaves what can be made up for exactly within 1e-9."""


def outputs(model: nn.Module, net: Ready) -> Tensor:
    with torch.no_grad():
        out = []
        for images in net.images:
            reset(model)
            out.append(model(images))
        reset(model)
        return torch.cat(out)


def pruned(net: Ready, removal: Removal, values: dict[str, Tensor]) -> nn.Module:
    """The dense model with new values, then zeroed where channels go."""
    module = net.graph.module
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    before = {name: tensors[name].detach().clone() for name in values}
    with torch.no_grad():
        for name, value in values.items():
            tensors[name].copy_(value)
        small = zeroed(net.graph, make_plan(net.graph, net.groups, removal))
        for name, value in before.items():
            tensors[name].copy_(value)
    return small


def values_of(net: Ready, removal: Removal, ridge: float = EXACT) -> dict[str, Tensor]:
    return compensate(net.graph.module, net.consumers, net.moments, removal, ridge)


def duplicates(model: nn.Module) -> None:
    """The last two filters of every spiking layer repeat the first two."""
    for name in ("first", "second"):
        convolution, norm = getattr(model, name)
        for tensor in (*convolution.parameters(), *norm.parameters(), *norm.buffers()):
            if tensor.ndim:
                tensor[-2:] = tensor[:2]
    model.third.weight[-2:] = model.third.weight[:2]


def test_duplicates_are_made_up_for_exactly() -> None:
    net = ready(Spikes, channels=2, change=duplicates)
    removal = {
        net.group("first.0.weight:0").id: [6, 7],
        net.group("second.0.weight:0").id: [10, 11],
        net.group("third.weight:0").id: [8, 9],
    }
    dense = outputs(net.model, net)
    lost = outputs(pruned(net, removal, {}), net)
    got = outputs(pruned(net, removal, values_of(net, removal)), net)
    assert float((lost - dense).abs().max()) > 1e-2
    torch.testing.assert_close(got, dense, rtol=0, atol=1e-9)


def combinations(model: nn.Module) -> None:
    """Some channels of a chain without spikes are combinations of others (one with a constant)."""
    stem, norm = model.stem, model.stem_norm
    for tensor in (stem.weight, stem.bias, norm.running_mean, norm.bias):
        tensor[3] = 0.5 * tensor[0] - 2 * tensor[1]
        tensor[6] = tensor[4] + tensor[7]
    norm.weight.fill_(1)
    norm.running_var.fill_(1)
    model.wide.weight[10] = model.wide.weight[0] - 3 * model.wide.weight[1]
    model.depthwise.weight[:] = model.depthwise.weight[:1]  # so that it keeps the combination
    model.norm.weight.fill_(1)
    model.norm.running_var.fill_(1)
    for tensor in (model.narrow.weight, model.norm.running_mean):
        tensor[5] = tensor[0] + 0.25 * tensor[2]
    model.norm.bias[5] += 2.0


def test_linear_combinations_are_made_up_for_exactly() -> None:
    net = ready(Mixed, count=24, change=combinations)
    removal = {
        net.group("stem.weight:0").id: [3, 6],  # read by a grouped, padded 3x3 convolution
        net.group("wide.weight:0").id: [10],  # through a depthwise one
        net.group("narrow.weight:0").id: [5],  # by F.linear, whose constant goes nowhere
    }
    alone = {g: c for g, c in removal.items() if g != net.group("narrow.weight:0").id}
    dense = outputs(net.model, net)
    got = outputs(pruned(net, alone, values_of(net, alone)), net)
    assert float((outputs(pruned(net, alone, {}), net) - dense).abs().max()) > 1e-3
    torch.testing.assert_close(got, dense, rtol=0, atol=1e-8)
    constant = outputs(pruned(net, removal, values_of(net, removal)), net)
    assert float((constant - dense).abs().max()) > 1e-4


def test_nothing_changes_where_nothing_goes() -> None:
    net = ready(Spikes, channels=2)
    assert values_of(net, {}) == {}
    assert values_of(net, {net.group("first.0.weight:0").id: []}) == {}


def squared_error(net: Ready, name: str, weight: Tensor, constant: Tensor) -> float:
    """Mean squared error of a consumer's outputs under the moments, exactly."""
    consumer = net.consumer(name)
    (part,) = net.moments.parts[consumer.weight]
    old = net.graph.module.get_parameter(consumer.weight).detach()
    groups, columns = part.mean.shape
    change = (old - weight).reshape(groups, -1, columns)
    second = torch.einsum("goc,gcd,god->go", change, part.second, change)
    mean = torch.einsum("goc,gc->go", change, part.mean)
    shift = constant.reshape(groups, -1)
    return float((second - 2 * mean * shift + shift**2).sum())


def test_every_consumer_gains_and_no_neighbour_of_the_solution_does_better() -> None:
    for net in (ready(Spikes, channels=2), ready(Mixed)):
        removal = {
            g.id: [cell[0] for cell in g.cells] for g in net.groups.prunable if len(g.cells) < 3
        }
        for consumer in net.consumers:
            lost = consumer.lost(removal)
            if not can_lose(consumer) or not bool(lost.any()):
                continue
            old = net.graph.module.get_parameter(consumer.weight).detach()
            parts = net.moments.parts[consumer.weight]
            new, constant = refit(consumer, parts, old, lost, ridge=1e-12, restore=False)
            matrix = old.reshape(lost.shape[0], -1, lost.shape[1])
            plain = matrix.masked_fill(lost[:, None], 0).reshape(old.shape)
            before = squared_error(net, consumer.name, plain, torch.zeros_like(constant))
            after = squared_error(net, consumer.name, new, constant)
            assert after < before
            generator = torch.Generator().manual_seed(0)
            for _ in range(5):
                step = 1e-3 * torch.randn(new.shape, generator=generator)
                step = step.reshape(matrix.shape).masked_fill(lost[:, None], 0).reshape(new.shape)
                drift = 1e-3 * torch.randn(constant.shape, generator=generator)
                drift = drift if consumer.absorbs else 0 * drift
                near = squared_error(net, consumer.name, new + step, constant + drift)
                assert near >= after - 1e-12


def test_outputs_keep_their_mean_and_get_their_variance_back() -> None:
    net = ready(Spikes, channels=2)
    consumer = net.consumer("second.0")
    (part,) = net.moments.parts["second.0.weight"]
    covariance = part.covariance(0, centred=True)
    old = net.graph.module.get_parameter("second.0.weight").detach()
    lost = consumer.lost({net.group("first.0.weight:0").id: [1, 4, 6]})

    def moments_of(restore: bool) -> tuple[Tensor, Tensor]:
        new, constant = refit(consumer, (part,), old, lost, restore=restore)
        rows = new.flatten(1)
        return rows @ part.mean[0] + constant, (rows @ covariance * rows).sum(1)

    mean, variance = old.flatten(1) @ part.mean[0], (old.flatten(1) @ covariance * old.flatten(1))
    variance = variance.sum(1)
    for restore in (False, True):
        torch.testing.assert_close(moments_of(restore)[0], mean, rtol=0, atol=1e-12)
    least_squares, restored = moments_of(False)[1], moments_of(True)[1]
    assert bool((least_squares < variance).all())
    expected = torch.minimum(variance, MOST_GAIN**2 * least_squares)
    torch.testing.assert_close(restored, expected, rtol=1e-9, atol=0)


def test_dead_and_duplicate_inputs_do_no_harm() -> None:
    def silence(model: nn.Module) -> None:
        duplicates(model)
        model.first[1].bias[2:4] = -100.0  # never fire

    net = ready(Spikes, channels=2, change=silence)
    removal = {net.group("first.0.weight:0").id: [0, 2, 3]}
    for ridge in (0.0, 1e-3):
        values = values_of(net, removal, ridge)
        assert all(bool(v.isfinite().all()) for v in values.values())
        dense = outputs(net.model, net)
        got = outputs(pruned(net, removal, values), net)
        assert float((got - dense).abs().max()) < (1e-6 if ridge == 0 else 1.0)
