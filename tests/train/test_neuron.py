"""The fast neurons compute what SpikingJelly's do, forward and backward."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import neuron, surrogate
from torch import nn

from psvit.models import build
from psvit.neurons import reset_state
from psvit.train.neuron import fast_neurons, traceable_neurons

FAST = {"in memory": partial(fast_neurons, compiled=False), "traceable": traceable_neurons}
"""What stands in for the stock neuron: model -> a context in which it does."""


@pytest.mark.parametrize("T", [1, 2, 4])
@pytest.mark.parametrize("threshold", [0.5, 1.0])
@pytest.mark.parametrize("tau", [2.0, 1.5])
@pytest.mark.parametrize("reset", [0.0, -0.25])
@pytest.mark.parametrize("stand_in", FAST.values(), ids=FAST)
def test_spikes_and_gradients_are_those_of_the_stock_neuron(
    T: int, threshold: float, tau: float, reset: float, stand_in: Any
) -> None:
    node = neuron.LIFNode(
        tau=tau, v_threshold=threshold, v_reset=reset, detach_reset=True, step_mode="m"
    )
    model = nn.Sequential(node)
    generator = torch.Generator().manual_seed(0)
    x = 2 * torch.randn(T, 3, 5, 4, generator=generator)
    weight = torch.randn(x.shape, generator=generator)
    results = []
    for fast in (False, True):
        reset_state(model)
        x_in = x.clone().requires_grad_()
        if fast:
            with stand_in(model) as replaced:
                spikes = model(x_in)
            assert replaced == 1
        else:
            spikes = model(x_in)
        (spikes * weight).sum().backward()
        results.append((spikes.detach(), x_in.grad))
    (stock_spikes, stock_grad), (fast_spikes, fast_grad) = results
    assert 0 < stock_spikes.mean() < 1
    assert torch.equal(fast_spikes, stock_spikes)
    torch.testing.assert_close(fast_grad, stock_grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_a_whole_model_has_the_same_logits_and_gradients(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    model = build("sdt-cifar10", weights=False, embed_dims=32, depths=1).train()
    model.to(memory_format=layout)
    x = torch.randn(2, 3, 32, 32)
    results = []
    for fast in (False, True):
        reset_state(model)
        model.zero_grad()
        if fast:
            with fast_neurons(model, compiled=False) as replaced:
                logits = model(x)
                logits.square().sum().backward()
            assert replaced == 12
        else:
            logits = model(x)
            logits.square().sum().backward()
        results.append((logits.detach(), [p.grad.clone() for p in model.parameters()]))
    assert torch.equal(results[0][0], results[1][0])
    for stock, fast_one in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(fast_one, stock, rtol=1e-3, atol=1e-5)
    assert sum(g.abs().sum() > 0 for g in results[0][1]) > 20


def test_neurons_are_themselves_again_afterwards() -> None:
    node = neuron.LIFNode(detach_reset=True, step_mode="m")
    with fast_neurons(nn.Sequential(node), compiled=False):
        assert "forward" in vars(node)
    assert "forward" not in vars(node)


@pytest.mark.parametrize(
    "node",
    [
        neuron.LIFNode(step_mode="m", detach_reset=False),
        neuron.LIFNode(step_mode="s", detach_reset=True),
        neuron.LIFNode(step_mode="m", detach_reset=True, decay_input=False),
        neuron.LIFNode(step_mode="m", detach_reset=True, v_reset=None),
        neuron.LIFNode(step_mode="m", detach_reset=True, surrogate_function=surrogate.ATan()),
        neuron.LIFNode(step_mode="m", detach_reset=True, store_v_seq=True),
        neuron.IFNode(step_mode="m", detach_reset=True),
    ],
    ids=["gradient", "single", "decay", "soft", "surrogate", "store", "kind"],
)
def test_neurons_of_another_form_are_left_alone(node: nn.Module) -> None:
    with fast_neurons(nn.Sequential(node), compiled=False) as replaced:
        assert replaced == 0
        assert "forward" not in vars(node)
