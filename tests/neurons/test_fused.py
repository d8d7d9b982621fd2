"""A fused neuron fires as the stock one does, bit for bit, in float32 and in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import neuron, surrogate
from torch import nn

from psvit.compat import neurons as old
from psvit.neurons import dynamics_of, fused
from psvit.neurons.fused import (
    spikes_in_place,
    spikes_in_steps,
    spikes_on_cpu,
)

KINDS = st.sampled_from(["if", "lif", "lif, input not decayed", "old if", "old lif"])


def stock(kind: str, threshold: float, reset: float | None, tau: float) -> nn.Module:
    both = {"v_threshold": threshold, "v_reset": reset}
    if kind == "if":
        return neuron.IFNode(step_mode="m", **both)
    if kind == "old if":
        return old.MultiStepIFNode(**both)
    if kind == "old lif":
        return old.MultiStepLIFNode(tau=tau, **both)
    return neuron.LIFNode(tau=tau, decay_input=kind == "lif", step_mode="m", **both)


@settings(max_examples=60, deadline=None)
@given(
    kind=KINDS,
    threshold=st.sampled_from([0.5, 1.0, 0.3]),
    reset=st.sampled_from([None, 0.0, -0.25, 0.1]),
    tau=st.sampled_from([2.0, 4.0, 1.5]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    shape=st.sampled_from([(1, 3), (4, 2, 5, 3), (3, 1)]),
    seed=st.integers(0, 1000),
)
def test_spikes_are_those_of_the_stock_neuron(
    kind, threshold, reset, tau, dtype, shape, seed
) -> None:
    node = stock(kind, threshold, reset, tau).eval()
    dynamics = dynamics_of(node)
    assert dynamics is not None
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=dtype)
    x = torch.where(torch.rand(shape, generator=generator) < 0.2, threshold, x)  # on the edge
    with torch.no_grad():
        expected = node(x)
    for compute in (spikes_in_steps, spikes_in_place, spikes_on_cpu):
        spikes = compute(x, dynamics)
        assert spikes.dtype == dtype
        assert torch.equal(spikes, expected)


def test_neurons_fire_in_what_is_compared() -> None:
    x = 2 * torch.randn(4, 500, generator=torch.Generator().manual_seed(0))
    dynamics = dynamics_of(stock("lif", 1.0, 0.0, 2.0))
    assert 0.1 < spikes_in_place(x, dynamics).mean() < 0.5


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_pieces_do_not_show(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "PIECE", piece)
    x = 2 * torch.randn(4, 3, 50, generator=torch.Generator().manual_seed(0)).transpose(1, 2)
    dynamics = dynamics_of(stock("lif", 1.0, 0.0, 2.0))
    before = x.clone()
    assert torch.equal(spikes_in_place(x, dynamics), spikes_in_steps(x, dynamics))
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    "order", [(0, 1, 3, 4, 2), (0, 1, 2, 3, 4), (1, 0, 2, 3, 4)], ids=["last", "first", "batch"]
)
def test_spikes_lie_as_the_input_does(order: tuple[int, ...]) -> None:
    x = 2 * torch.randn(4, 2, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    laid = x.permute(order).contiguous().permute([order.index(i) for i in range(5)])
    dynamics = dynamics_of(stock("lif", 1.0, 0.0, 2.0))
    spikes = spikes_in_place(laid, dynamics)
    assert torch.equal(spikes, spikes_in_steps(x, dynamics))
    if order[0] == 0:
        assert spikes.stride() == laid.stride()


def test_half_precision_is_computed_in_single() -> None:
    x = (2 * torch.randn(4, 300, generator=torch.Generator().manual_seed(0))).bfloat16()
    node = stock("lif", 1.0, 0.0, 2.0).eval()
    dynamics = dynamics_of(node)
    with torch.no_grad():
        expected = node(x)
    for compute in (spikes_in_place, spikes_in_steps):
        spikes = compute(x, dynamics)
        assert spikes.dtype == torch.bfloat16
        assert torch.equal(spikes, expected)


class Own(neuron.LIFNode):
    pass


@pytest.mark.parametrize(
    "node",
    [
        neuron.LIFNode(step_mode="s"),
        neuron.LIFNode(step_mode="m", store_v_seq=True),
        neuron.LIFNode(step_mode="m", surrogate_function=surrogate.Sigmoid(spiking=False)),
        neuron.ParametricLIFNode(step_mode="m"),
        Own(step_mode="m"),
        old.MultiStepLIFNode(tau=1.5, decay_input=False),
        nn.ReLU(),
    ],
    ids=["single-step", "stored", "not spiking", "learned", "derived", "reordered", "no neuron"],
)
def test_other_neurons_are_left_alone(node: nn.Module) -> None:
    assert dynamics_of(node) is None


def test_hooked_neurons_are_left_alone() -> None:
    node = neuron.LIFNode(step_mode="m")
    node.register_forward_hook(lambda module, args, output: None)
    assert dynamics_of(node) is None
