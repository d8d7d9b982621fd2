"""Which weight reads which channels, and where a constant can go."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import psvit
from psvit.calibrate import Consumer, can_lose, list_consumers
from tests.calibrate.nets import Mixed, Spikes, ready
from tests.sensitivity.tiny import Steps, tiny


def consumers_of(model: nn.Module, example: Tensor) -> dict[str, Consumer]:
    graph = psvit.capture(model.eval(), example)
    return {c.name: c for c in list_consumers(graph, psvit.find_groups(graph))}


def test_every_weight_with_its_channels_and_where_its_constant_goes() -> None:
    net = ready(Spikes, channels=2)
    found = {c.name: c for c in net.consumers}
    assert list(found) == ["first.0", "second.0", "third", "head"]
    assert found["first.0"].groups_read == ()
    assert not can_lose(found["first.0"])
    assert found["first.0"].bias == "first.0.bias"  # a batch norm follows as well
    assert found["second.0"].norm == "second.1"
    assert not found["third"].absorbs
    assert found["head"].bias == "head.bias"
    hidden = net.group("first.0.weight:0")
    assert found["second.0"].groups_read == (hidden.id,)
    assert found["second.0"].channel.tolist() == list(range(8))
    lost = found["second.0"].lost({hidden.id: [1, 7]})
    assert lost.shape == (1, 72)
    assert lost[0].nonzero().flatten().tolist() == [*range(9, 18), *range(63, 72)]


def test_functions_groups_and_depthwise_convolutions_are_found() -> None:
    net = ready(Mixed)
    found = {c.name: c for c in net.consumers}
    assert list(found) == ["stem", "grouped", "wide", "depthwise", "narrow", "weight", "head"]
    assert found["grouped"].geometry.groups == 2
    assert len(found["grouped"].group) == 8
    assert (found["depthwise"].group >= 0).all()
    assert not can_lose(found["depthwise"])
    assert not found["wide"].absorbs  # a depthwise convolution follows
    assert found["weight"].norm is None
    stem = net.group("stem.weight:0")
    lost = found["grouped"].lost({stem.id: [0, 5]})
    assert lost.reshape(8, 9).all(1).nonzero().flatten().tolist() == [0, 5]


def test_a_layer_called_once_a_step_is_one_consumer() -> None:
    net = tiny(Steps)
    found = {c.name: c for c in list_consumers(net.graph, net.groups)}
    assert len(found["blocks.1.0"].calls) == 4
    assert found["blocks.1.0"].norm == "blocks.1.1"


class Readers(nn.Module):
    """Batch norms that must not take a constant, and a weight that is read twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(3, 6)
        self.both, self.both_norm = nn.Linear(6, 6, bias=False), nn.BatchNorm1d(6)
        self.left, self.right = nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False)
        self.shared_norm = nn.BatchNorm1d(6)
        self.bare = nn.Linear(6, 6, bias=False)
        self.bare_norm = nn.BatchNorm1d(6, track_running_stats=False)
        self.twice = nn.Linear(6, 6)
        self.tied = nn.Linear(6, 6)
        self.tied.bias = self.twice.bias

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        both = self.both(x)
        y = self.both_norm(both) + both  # the norm is not its only reader
        y = y + self.shared_norm(self.left(x)) + self.shared_norm(self.right(x))
        y = y + self.bare_norm(self.bare(x))  # no running mean
        y = torch.tanh(self.twice(y)) + y @ self.twice.weight  # read by something else too
        return self.tied(y)


def test_a_constant_goes_nowhere_if_others_would_see_it() -> None:
    found = consumers_of(Readers(), torch.randn(4, 3))
    assert [found[n].absorbs for n in ("both", "left", "right", "bare")] == [False] * 4
    assert "twice" not in found
    assert found["tied"].bias is None  # shared with another layer
