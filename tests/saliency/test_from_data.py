"""Criteria that run the model, against slow oracles that know nothing of gates and readers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import neuron, surrogate
from torch import Tensor, nn

import psvit
from psvit.errors import DataError, ModelError, OptionError
from psvit.groups import make_plan
from psvit.records import Graph, Group, Groups
from psvit.rewrite import rewrite
from psvit.saliency import FROM_DATA, never_fired, saliency
from tests.calibrate.nets import Mixed, Ready, Spikes, ready
from tests.zoo.case import float64
from tests.zoo.wake import distance, outputs


class Smooth(nn.Module):
    """Attention of two heads without softmax and a hidden layer, read twice; no spikes."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 6)
        self.qkv = nn.Linear(6, 24)
        self.proj = nn.Linear(8, 6)
        self.one, self.two = nn.Linear(6, 5), nn.Linear(5, 6)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        b, n, _ = x.shape
        q, k, v = torch.tanh(self.qkv(x)).reshape(b, n, 3, 2, 4).permute(2, 0, 3, 1, 4)
        mixed = (q @ k.transpose(-2, -1)) @ v
        x = x + self.proj(mixed.transpose(1, 2).reshape(b, n, 8))
        x = x + self.two(torch.sigmoid(self.one(x)))
        return self.head(x.mean(1))


def smooth(seed: int = 0) -> tuple[nn.Module, Graph, Groups, Tensor]:
    with float64(), torch.random.fork_rng():
        torch.manual_seed(seed)
        model, points = Smooth(), torch.randn(7, 5, 3)
        graph = psvit.capture(model, points[:2])
        return model, graph, psvit.find_groups(graph), points


def scaled(model: nn.Module, group: Group, channel: int, factor: float) -> Callable[[], None]:
    """Multiply what reads a channel, by changing weights alone; returns how to undo it."""
    weights = {s.tensor: s.index[channel] for s in group.slots if s.dim == 1}
    assert weights, group.name
    saved = {name: model.get_parameter(name).detach().clone() for name in weights}
    for name, index in weights.items():
        model.get_parameter(name).data[:, index] *= factor

    def undo() -> None:
        for name, value in saved.items():
            model.get_parameter(name).data.copy_(value)

    return undo


def test_taylor_is_the_squared_change_by_finite_differences() -> None:
    model, graph, groups, points = smooth()
    scores = saliency(graph, groups, "taylor", 3, data=[points[:4], points[4:]], n=7)
    uniform, step, checked = np.random.default_rng(3).random(7), 1e-5, 0
    logs = model(points).log_softmax(1).detach()
    chosen = [int((p.exp().cumsum(0) > u).nonzero()[0]) for p, u in zip(logs, uniform, strict=True)]
    for group in groups.prunable:
        if group.role == "qk":
            continue
        for channel in range(group.size):
            sides = []
            for factor in (1 + step, 1 - step):
                undo = scaled(model, group, channel, factor)
                sides.append(model(points).log_softmax(1).detach()[range(7), chosen])
                undo()
            slope = (sides[0] - sides[1]) / (2 * step)
            expected = float(slope.square().mean())
            assert float(scores[group.id][channel]) == pytest.approx(expected, rel=1e-6), group.name
            checked += 1
    assert checked >= 6 + 8 + 5  # the stream, v and the hidden layer


def test_taylor_counts_channels_that_meet_in_a_product_once() -> None:
    """Of ``q k^T`` only one side is scaled: the slope is that of the product, not twice."""
    model, graph, groups, points = smooth()
    (qk,) = (g for g in groups.prunable if g.role == "qk")
    got = saliency(graph, groups, "taylor", 3, data=[points], n=7)[qk.id]
    uniform = np.random.default_rng(3).random(7)
    channel = 2
    gate = torch.ones((), dtype=torch.float64, requires_grad=True)

    def forward(x: Tensor) -> Tensor:
        x = model.embed(x)
        b, n, _ = x.shape
        q, k, v = torch.tanh(model.qkv(x)).reshape(b, n, 3, 2, 4).permute(2, 0, 3, 1, 4)
        head, place = divmod(channel, 4)
        mask = torch.zeros(2, 1, 4, dtype=torch.float64)
        mask[head, 0, place] = 1
        mixed = ((q * (1 + mask * (gate - 1))) @ k.transpose(-2, -1)) @ v
        x = x + model.proj(mixed.transpose(1, 2).reshape(b, n, 8))
        x = x + model.two(torch.sigmoid(model.one(x)))
        return model.head(x.mean(1))

    slopes = []
    for x, u in zip(points, uniform, strict=True):
        logs = forward(x[None]).log_softmax(1)[0]
        chosen = int((logs.exp().cumsum(0) > u).nonzero()[0])
        slopes.append(float(torch.autograd.grad(logs[chosen], gate)[0]))
    expected = np.mean(np.square(slopes))
    assert float(got[channel]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("method", ["taylor", "rate"])
def test_permuting_channels_permutes_scores(method: str) -> None:
    model, graph, groups, points = smooth()
    before = saliency(graph, groups, method, data=[points], n=7)
    order = torch.tensor([3, 0, 4, 2, 1])
    with torch.no_grad():
        model.one.weight.copy_(model.one.weight[order])
        model.one.bias.copy_(model.one.bias[order])
        model.two.weight.copy_(model.two.weight[:, order])
    graph = psvit.capture(model, points[:2])
    groups = psvit.find_groups(graph)
    after = saliency(graph, groups, method, data=[points], n=7)
    for group in groups:
        moved = group.name == "one"
        expected = before[group.id][order] if moved else before[group.id]
        torch.testing.assert_close(after[group.id], expected, rtol=1e-9, atol=1e-15)


@pytest.fixture(scope="module")
def spikes() -> Ready:
    return ready(Spikes, channels=2)


@pytest.mark.parametrize("method", ["taylor", "rate"])
@pytest.mark.parametrize("build", [Spikes, Mixed])
def test_batches_do_not_matter_and_the_model_is_as_before(
    method: str, build: type[nn.Module]
) -> None:
    net = ready(build, channels=2 if build is Spikes else 3)
    images = torch.cat(net.images)
    before = {k: v.clone() for k, v in net.graph.module.state_dict().items()}
    state = torch.get_rng_state()
    one = saliency(net.graph, net.groups, method, data=[images], n=6)
    other = saliency(net.graph, net.groups, method, data=[images[:1], images[1:5], images[5:]], n=6)
    labelled = [(images[:4], torch.zeros(4)), (images[4:], torch.zeros(4))]
    third = saliency(net.graph, net.groups, method, data=labelled, n=6)
    for group in net.groups:
        for again in (other, third):
            torch.testing.assert_close(again[group.id], one[group.id], rtol=1e-9, atol=1e-15)
    assert all(torch.equal(v, before[k]) for k, v in net.graph.module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None and p.requires_grad for p in net.graph.module.parameters())


def test_rate_is_firing_rate_times_norm(spikes: Ready) -> None:
    images = torch.cat(spikes.images)
    group = spikes.group("second.0.weight:0")
    seen: list[Tensor] = []
    handle = spikes.model.lifs[1].register_forward_hook(lambda m, a, y: seen.append(y))
    try:
        outputs(spikes.model, (images,))
    finally:
        handle.remove()
    rates = seen[0].mean((0, 1, 3, 4))
    norms = spikes.model.third.weight.detach().norm(dim=0)
    got = saliency(spikes.graph, spikes.groups, "rate", data=[images], n=8)[group.id]
    torch.testing.assert_close(got, rates * norms, rtol=1e-12, atol=0)


def silence(model: nn.Module) -> None:
    """Channels 2 and 7 of the second stage never fire."""
    norm = model.second[1]
    for channel in (2, 7):
        norm.weight[channel] = 0
        norm.bias[channel] = -1


@pytest.mark.parametrize("method", ["taylor", "rate"])
def test_channels_that_never_fire_score_0_and_can_go(method: str) -> None:
    net = ready(Spikes, channels=2, change=silence)
    group = net.group("second.0.weight:0")
    scores = saliency(net.graph, net.groups, method, data=net.images)[group.id]
    assert scores[[2, 7]].tolist() == [0, 0]
    assert int((scores == 0).sum()) < group.size
    assert never_fired(net.groups, {g.id: scores[:0] for g in net.groups} | {group.id: scores}) == 2
    small = rewrite(net.graph, make_plan(net.graph, net.groups, {group.id: [2, 7]}))
    images = (torch.cat(net.images),)
    with torch.no_grad():
        assert distance(outputs(small, images), outputs(net.model, images)) < 1e-9


def test_spikes_pass_gradients_through_their_surrogates(spikes: Ready) -> None:
    scores = saliency(spikes.graph, spikes.groups, "taylor", data=spikes.images)
    for group in spikes.groups.prunable:
        assert int((scores[group.id] > 0).sum()) > group.size // 2, group.name


class Trained(neuron.IFNode):
    """Its surrogate is there in train mode only."""

    def single_step_forward(self, x: Tensor) -> Tensor:
        spikes = super().single_step_forward(x)
        return spikes if self.training else spikes.detach()


def test_a_neuron_that_has_its_surrogate_in_train_mode_only_gets_there() -> None:
    points, scores = 3 * torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), []
    for kind in (neuron.IFNode, Trained):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 6), kind(), nn.Linear(6, 3))
        graph = psvit.capture(model.eval(), points[:2])
        groups = psvit.find_groups(graph)
        scores.append(saliency(graph, groups, "taylor", data=[points]))
        assert not any(part.training for part in graph.module.modules())
    for group, expected in scores[0].items():
        assert torch.equal(scores[1][group], expected)
    assert float(scores[0][0].max()) > 0


class Flat(surrogate.ATan):
    """A surrogate whose gradient is 0."""

    @staticmethod
    def spiking_function(x: Tensor, alpha: object) -> Tensor:
        return (x >= 0).to(x) + 0 * x


class Hard(nn.Module):
    """A comparison in place of a neuron."""

    def forward(self, x: Tensor) -> Tensor:
        return (x > 0.1).to(x)


@pytest.mark.parametrize(
    ("middle", "said"),
    [
        (neuron.IFNode(surrogate_function=Flat()), r"neuron layer 1 passes no gradient"),
        (Hard(), r"no gradient gets through the model.*group 0"),
    ],
)
def test_a_neuron_without_a_gradient_is_named(middle: nn.Module, said: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), middle, nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3))
    model.insert(0, nn.Linear(4, 4))
    said = said.replace("layer 1", "layer 2")
    points = 3 * torch.randn(6, 4)
    graph = psvit.capture(model, points[:2])
    groups = psvit.find_groups(graph)
    with pytest.raises(ModelError, match=said):
        saliency(graph, groups, "taylor", data=[points])
    saliency(graph, groups, "rate", data=[points])


class Pairs(nn.Module):
    """Takes batches of two images only."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.tanh(self.a(x)).reshape(2, 1, 6).sum(1))


def test_a_model_of_a_fixed_batch_sees_each_image_as_often() -> None:
    with float64():
        torch.manual_seed(0)
        model, points = Pairs(), torch.randn(6, 4)
        graph = psvit.capture(model, points[:2])
        groups = psvit.find_groups(graph)
        got = saliency(graph, groups, "taylor", data=[points])
        free = nn.Sequential(model.a, nn.Tanh(), model.b)
        graph = psvit.capture(free, points[:2])
        expected = saliency(graph, psvit.find_groups(graph), "taylor", data=[points])
    first, second = (next(v for v in s.values() if len(v) == 6) for s in (got, expected))
    torch.testing.assert_close(first, second, rtol=1e-9, atol=0)


@pytest.mark.parametrize("method", list(FROM_DATA))
def test_images_that_cannot_be_used_are_named(spikes: Ready, method: str) -> None:
    graph, groups = spikes.graph, spikes.groups
    nan = torch.full((2, 2, 6, 6), float("nan"), dtype=torch.float64)
    blank = torch.ones(2, 2, 6, 6, dtype=torch.float64)
    for data, said in (([], "no images"), ([nan], "NaN"), ([blank], "blank"), (["x"], "a str")):
        with pytest.raises(DataError, match=said):
            saliency(graph, groups, method, data=data)
    with pytest.raises(OptionError, match="--data DATA"):
        saliency(graph, groups, method)
    with pytest.raises(OptionError, match="whole number above 0"):
        saliency(graph, groups, method, data=spikes.images, n=0)
