"""SpikingJelly's counters beside psvit's own: SOPs and MACs agree, energy is another model."""

from __future__ import annotations

import json
from functools import cache

import pytest
import torch
from spikingjelly.activation_based import neuron
from spikingjelly.activation_based.model.spike_driven_transformer import SpikeDrivenTransformer
from spikingjelly.activation_based.model.spikformer import Spikformer
from spikingjelly.activation_based.op_counter import (
    DispatchCounterMode,
    MACCounter,
    SynOpCounter,
    estimate_simple_energy,
)
from torch import Tensor, nn

from psvit.capture import capture
from psvit.cost import observe
from psvit.cost.jelly import BETWEEN, MODEL, memory_energy
from psvit.errors import DataError, ModelError
from psvit.neurons import reset_state
from tests.zoo import ZOO
from tests.zoo.wake import wake

IMAGES = 2
NAMES = {"sj_spikformer_t4": Spikformer, "sj_spike_driven_t4": SpikeDrivenTransformer}


@cache
def model_and_images(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    (images,) = (x.float() for x in ZOO[name].inputs(IMAGES))
    return wake(ZOO[name].build().float(), (images,)).eval(), images


@pytest.mark.parametrize("name", NAMES)
def test_sops_and_macs_are_those_of_spikingjelly_layer_by_layer(name: str) -> None:
    model, images = model_and_images(name)
    rates = observe(capture(model, images, check=False), [images]).rates
    synops, macs = SynOpCounter(), MACCounter()
    reset_state(model)
    with torch.no_grad(), DispatchCounterMode([synops, macs]):
        model(images)
    reset_state(model)
    root = next(type(m).__name__ for m in model.modules())
    assert rates.sops * IMAGES == synops.get_total() > 1e5
    # SpikingJelly counts the scaling in batch norm, which is folded by the convention
    by_kernel = dict(macs.get_counts()["Global"])
    by_kernel.pop(torch.ops.aten.native_batch_norm.default)
    assert rates.macs * IMAGES == sum(by_kernel.values())
    theirs = synops.get_counts()
    layers = {name: layer for name, layer in rates.layers.items() if ":" not in name}
    assert len(layers) > 10
    for layer, seen in layers.items():
        assert seen.sops * IMAGES == sum(theirs[f"{root}.{layer}"].values()), layer


def test_where_the_two_differ() -> None:
    # Whole numbers of an integer neuron, and spikes times a constant, are multiplications to
    # SpikingJelly, which knows 0 and 1 only; to psvit a 2 is two spikes. Weights of 0 and 1 are
    # spikes to SpikingJelly, and parameters to psvit.
    class Rounds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(torch.round(x))

    x = torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, 0.0]])

    def both(model: nn.Module, x: Tensor) -> tuple[float, float]:
        theirs = SynOpCounter()
        with torch.no_grad(), DispatchCounterMode([theirs]):
            model(x)
        return 2 * observe(capture(model, x, check=False), [x]).rates.sops, theirs.get_total()

    assert both(Rounds(), x) == (4 * 4, 0)
    ones = nn.Linear(3, 4, bias=False)
    nn.init.ones_(ones.weight)
    assert both(ones, torch.tensor([[0.3, 0.2, 0.1]] * 2)) == (0, 3 * 4 * 2)


def test_energy_of_a_toy_by_hand() -> None:
    class Toy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 5, bias=False)
            self.lif = neuron.IFNode(step_mode="s")

        def forward(self, x: Tensor) -> Tensor:
            return self.lif(self.fc(x))

    got = memory_energy(Toy(), [torch.tensor([[0.5, 0, 1], [1, 0, 0.25]])])
    fc, lif = got.layers["fc"], got.layers["lif"]
    assert (fc.macs, fc.acs, fc.memory_bytes) == (15, 0, 15 * 4)
    assert fc.energy_pj == pytest.approx(15 * 4.6 + 60 * 24.96)
    # one potential a neuron, read and written in the one step
    assert lif.memory_bytes == 2 * 5 * 4
    assert got.model == MODEL
    assert got.energy_pj == pytest.approx(got.compute_pj + got.memory_pj)
    assert got.memory_pj == pytest.approx((60 + 40) * 24.96)


def test_a_spike_reads_the_weights_of_its_outputs() -> None:
    got = memory_energy(nn.Linear(3, 5, bias=False), [torch.tensor([[1.0, 0, 0], [1, 1, 0]])])
    assert (got.layers[""].macs, got.layers[""].acs) == (0, 7.5)
    assert got.layers[""].memory_bytes == 7.5 * 4


def test_energy_of_a_transformer_is_spikingjellys() -> None:
    model, images = model_and_images("sj_spikformer_t4")
    got = memory_energy(model, [(images, torch.zeros(IMAGES))])
    reset_state(model)
    theirs = estimate_simple_energy(model, images)
    reset_state(model)
    assert got.memory_pj * IMAGES == pytest.approx(theirs.energy_memory_pj)
    macs = sum(layer.macs for layer in got.layers.values())
    assert macs * IMAGES == pytest.approx(theirs.counts["mac"])
    # theirs counts the sums of its own memory counter among the ACs
    acs = sum(layer.acs for layer in got.layers.values())
    assert 0.97 * theirs.counts["ac"] < acs * IMAGES < theirs.counts["ac"]
    assert sum(layer.energy_pj for layer in got.layers.values()) == pytest.approx(got.energy_pj)
    assert got.layers[BETWEEN].acs > 0
    assert json.loads(json.dumps(got.to_dict()))["layers"]


def test_what_it_cannot_count_is_said() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(4)
            self.up = nn.ConvTranspose1d(4, 2, 2)

        def forward(self, x: Tensor) -> Tensor:
            q = self.norm(x)[:, None]
            q = nn.functional.scaled_dot_product_attention(q, q, q)[:, 0]
            return self.up(q.transpose(1, 2)).mean(2)

    missed = memory_energy(Odd(), [torch.rand(2, 3, 4)]).missed
    assert "the operation native_layer_norm" in missed
    assert any("attention" in one for one in missed)
    assert missed[-2:] == (
        "memory traffic of 1 ConvTranspose1d layers",
        "memory traffic of 1 LayerNorm layers",
    )
    assert not any("transpose" in one for one in missed[:-2])


def test_batches_and_a_limit_do_not_change_the_mean() -> None:
    model, images = nn.Linear(3, 5), torch.rand(5, 3)
    whole = memory_energy(model, [images])
    assert memory_energy(model, images.split(2)).energy_pj == pytest.approx(whole.energy_pj)
    assert memory_energy(model, images.split(2), limit=3).n == 3
    with pytest.raises(DataError, match="no images"):
        memory_energy(model, [])


def test_a_batch_that_does_not_fit_is_refused_in_one_line() -> None:
    with pytest.raises(ModelError, match=r"fails on a batch of shape \[2, 4\]: mat1 and mat2"):
        memory_energy(nn.Linear(3, 5), [torch.rand(2, 4)])
