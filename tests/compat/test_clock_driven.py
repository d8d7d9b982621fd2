"""Layers and functions of ``spikingjelly.clock_driven`` beside the neurons."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from torch import nn

from psvit.compat import StandInGap, clock_driven, legacy_imports


@pytest.fixture
def old() -> ModuleType:
    with legacy_imports():
        from spikingjelly.clock_driven import base, functional, lava_exchange, layer, neuron

        package = ModuleType("old")
        package.__dict__.update(base=base, functional=functional, lava_exchange=lava_exchange)
        package.__dict__.update(layer=layer, neuron=neuron)
        return package


def test_seq_to_ann_container(old: ModuleType) -> None:
    conv, norm = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)
    container = old.layer.SeqToANNContainer(conv, norm).eval()
    x = torch.rand(3, 2, 2, 5, 5)
    expected = norm(conv(x.flatten(0, 1))).reshape(3, 2, 4, 3, 3)
    assert torch.equal(container(x), expected)
    assert "0.weight" in container.state_dict()


def test_multi_step_container(old: ModuleType) -> None:
    container = old.layer.MultiStepContainer(nn.Linear(2, 3), old.neuron.LIFNode())
    x = torch.rand(4, 2, 2) * 3
    steps = [container[0](step) for step in x]
    lif = old.neuron.MultiStepLIFNode()
    assert torch.equal(container(x), lif(torch.stack(steps)))


def test_reset_net_resets_every_neuron(old: ModuleType) -> None:
    net = nn.Sequential(old.neuron.MultiStepLIFNode(), nn.Sequential(old.neuron.MultiStepIFNode()))
    net(torch.ones(2, 3))
    old.functional.reset_net(net)
    assert net[0].v == 0.0
    assert net[1][0].v == 0.0


@pytest.mark.parametrize(("name", "shape"), [("MultiStepDropout", (5, 2, 40)),
                                             ("MultiStepDropout2d", (5, 2, 40, 3, 3))])  # fmt: skip
def test_dropout_keeps_one_mask_for_all_steps(
    old: ModuleType, name: str, shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    dropout = getattr(old.layer, name)(0.5)
    y = dropout(torch.ones(shape))
    assert all(torch.equal(step, y[0]) for step in y)
    assert sorted(y.unique().tolist()) == [0.0, 2.0]
    if len(shape) == 5:
        assert torch.equal(y.amin((3, 4)), y.amax((3, 4)))
    assert torch.equal(dropout.eval()(torch.ones(shape)), torch.ones(shape))


def test_lava_order_of_axes(old: ModuleType) -> None:
    x = torch.rand(2, 3, 4, 5)
    there = old.lava_exchange.TNX_to_NXT(x)
    assert there.shape == (3, 4, 5, 2)
    assert torch.equal(old.lava_exchange.NXT_to_TNX(there), x)


def test_a_users_memory_module(old: ModuleType) -> None:
    class Counter(old.base.MemoryModule):
        def __init__(self) -> None:
            super().__init__()
            self.register_memory("seen", 0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen = self.seen + 1
            return x * self.seen

    counter = Counter()
    x = torch.ones(2)
    assert (counter(x) + counter(x)).tolist() == [3.0, 3.0]
    counter.reset()
    assert counter.seen == 0


# SpikingJelly's own monitor needs tensorboard, which is not psvit's to ask for
@pytest.mark.parametrize("part", [p for p in clock_driven.PARTS if p != "monitor"])
def test_every_part_can_be_served(part: str) -> None:
    served = clock_driven.build(part)
    assert served.__name__ == f"spikingjelly.clock_driven.{part}"
    assert [n for n in vars(served) if not n.startswith("_")]


def test_a_part_that_is_not_served_is_a_gap(old: ModuleType) -> None:
    with pytest.raises(StandInGap, match=r"clock_driven\.ann2snn is missing"):
        _ = clock_driven.build().ann2snn
