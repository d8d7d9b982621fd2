"""Second-order saliency: exact costs, greedy order, heads kept equal, silent channels free."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import psvit
from psvit.allocate import choose
from psvit.calibrate import Compensator, calibrate, refit
from psvit.groups import make_plan
from psvit.records import Group
from psvit.saliency import obs_scores
from tests.calibrate.nets import Attention, Fused, Mixed, Ready, Spikes, ready
from tests.zoo import ZOO
from tests.zoo.case import float64
from tests.zoo.wake import wake


def compensator(net: Ready, ridge: float = 1e-3) -> Compensator:
    return Compensator(net.graph, net.groups, net.consumers, net.moments, ridge)


def cost_of(net: Ready, group: Group, gone: list[int], ridge: float) -> float:
    """The ridge objective of removing channels of a group, by solving for it from scratch."""
    total = 0.0
    for consumer in net.consumers:
        if group.id not in consumer.groups_read or consumer.weight not in net.moments.parts:
            continue
        old = net.graph.module.get_parameter(consumer.weight).detach()
        lost = consumer.lost({group.id: gone})
        parts = net.moments.parts[consumer.weight]
        new, _ = refit(consumer, parts, old, lost, ridge, restore=False)
        gain = torch.ones(len(old))
        if consumer.norm is not None:
            norm = net.graph.module.get_submodule(consumer.norm)
            gain = (norm.weight / (norm.running_var + norm.eps).sqrt()).detach()
        change = ((old - new).flatten(1) * gain[:, None]).reshape(lost.shape[0], -1, lost.shape[1])
        for g in range(lost.shape[0]):
            c = parts[0].covariance(g, centred=consumer.absorbs).clone()
            change[g][:, c.diagonal() < 1e-15] = 0  # an input that never changes costs nothing
            c.diagonal().add_(ridge * c.diagonal().mean())
            total += float(torch.einsum("oc,cd,od->", change[g], c, change[g]))
    return total


def _favour(model: nn.Module) -> None:
    """One head is cheap throughout, and still must not lose more than the other."""
    if isinstance(model, Attention):
        model.proj.weight[:, 3:] *= 0.01


@pytest.mark.parametrize(
    ("build", "axis"),
    [
        (Spikes, "first.0.weight:0"),  # read by a 3x3 convolution: blocks of nine columns
        (Spikes, "second.0.weight:0"),  # by a linear layer without a constant
        (Spikes, "third.weight:0"),
        (Mixed, "wide.weight:0"),
        (Mixed, "stem.weight:0"),  # by a grouped convolution
        (Attention, "v.weight:0"),  # two heads, read by one weight
    ],
)
def test_scores_add_up_to_the_least_squares_error_of_every_prefix(
    build: type[nn.Module], axis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.import_module("psvit.saliency.obs"), "LAZY", 20)
    net = ready(build, channels=2 if build is Spikes else 3, change=_favour)
    group = net.group(axis)
    scores = obs_scores(compensator(net))[group.id]
    by_cell = [sorted(cell, key=lambda c: float(scores[c])) for cell in group.cells]
    for count in range(1, len(by_cell[0])):
        gone = [c for cell in by_cell for c in cell[:count]]
        spent = sum(float(scores[cell[count - 1]]) for cell in by_cell)
        assert spent == pytest.approx(cost_of(net, group, gone, 1e-3), rel=1e-9)


def test_each_step_of_the_greedy_order_is_the_cheapest_there_is() -> None:
    net = ready(Spikes, channels=2)
    group = net.group("first.0.weight:0")
    order = obs_scores(compensator(net))[group.id].argsort().tolist()
    for count in range(group.size - 1):
        gone, rest = order[:count], order[count:]
        costs = [cost_of(net, group, [*gone, c], 1e-3) for c in rest]
        assert int(np.argmin(costs)) == 0


def test_a_residual_stream_sums_over_all_that_read_it() -> None:
    class Stream(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 7, 1)
            self.up, self.down = nn.Conv2d(7, 9, 3, padding=1), nn.Conv2d(9, 7, 1)
            self.head = nn.Linear(7, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            x = x + self.down(torch.relu(self.up(torch.relu(x))))
            return self.head(torch.relu(x).mean((2, 3)))

    net = ready(Stream, count=12)
    group = net.group("stem.weight:0")
    scores = obs_scores(compensator(net))[group.id]
    order = scores.argsort().tolist()
    assert len([c for c in net.consumers if group.id in c.groups_read]) == 2
    assert float(scores[order[3]]) == pytest.approx(cost_of(net, group, order[:4], 1e-3), rel=1e-9)


def test_channels_that_never_fire_cost_nothing_and_go_first() -> None:
    def silence(model: nn.Module) -> None:
        model.first[1].bias[[1, 6]] = -100.0

    net = ready(Spikes, channels=2, change=silence)
    scores = obs_scores(compensator(net))[net.group("first.0.weight:0").id]
    assert (scores == 0).nonzero().flatten().tolist() == [1, 6]


def test_of_two_channels_that_replace_each_other_only_one_is_cheap() -> None:
    def twins(model: nn.Module) -> None:
        for tensor in (*model.first.parameters(), *model.first.buffers()):
            if tensor.ndim:
                tensor[5] = tensor[2]

    net = ready(Spikes, channels=2, change=twins)
    group = net.group("first.0.weight:0")
    scores = obs_scores(compensator(net))[group.id]
    order = scores.argsort().tolist()
    first, second = sorted((2, 5), key=order.index)
    before = float(scores[order[order.index(second) - 1]])
    assert order.index(first) == 0
    assert float(scores[first]) < 0.1 * (float(scores[second]) - before)


def test_blocks_that_do_not_fit_are_ranked_too() -> None:
    net = ready(Spikes, channels=2)
    tight = psvit.calibrate.collect(net.graph, net.consumers, net.images, limit_bytes=15_000)
    dense = Compensator(net.graph, net.groups, net.consumers, tight)
    group = net.group("first.0.weight:0")
    assert len(tight.parts["second.0.weight"]) == 9
    assert len(obs_scores(dense)[group.id].unique()) == group.size


@pytest.mark.parametrize("name", ["sj_spikformer_t1", "einops_attention"])
def test_heads_stay_equal_and_every_prefix_is_a_plan(name: str) -> None:
    with float64(), torch.random.fork_rng():
        torch.manual_seed(0)
        inputs = ZOO[name].inputs(4)
        net = wake(ZOO[name].build(), inputs)
        graph = psvit.capture(net, inputs)
        groups = psvit.find_groups(graph)
        scores = obs_scores(calibrate(graph, groups, [inputs]))
    levels = {g.tie: 1 for g in groups.prunable}
    removal = choose(groups, scores, levels)
    make_plan(graph, groups, removal)
    for group in groups.prunable:
        assert bool(scores[group.id].isfinite().all())
        counts = [sum(c in removal[group.id] for c in cell) for cell in group.cells]
        assert set(counts) == {1}


@pytest.mark.parametrize("build", [Attention, Fused])
def test_q_and_k_cost_what_their_product_loses(build: type[Attention]) -> None:
    net = ready(build)
    dense = calibrate(net.graph, net.groups, net.images)
    group = net.group("q.weight:0")
    scores = obs_scores(dense)[group.id]
    x = torch.cat(net.images).flatten(2).transpose(1, 2)
    q, k = (f(x).reshape(8, 36, 2, 3).transpose(1, 2) for f in (net.model.q, net.model.k))
    for head, cell in enumerate(group.cells):
        ranked = sorted(cell, key=lambda c: float(scores[c]))
        for count in (1, 2):
            gone = [c % 3 for c in ranked[:count]]
            lost = q[:, head, :, gone] @ k[:, head, :, gone].transpose(-2, -1)
            squared = float(lost.detach().square().sum() / 8)
            assert float(scores[ranked[count - 1]]) == pytest.approx(squared, rel=1e-9)
