"""The old neurons' equations, against sequences computed by hand."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from spikingjelly.activation_based import neuron as current
from torch import Tensor

import psvit.compat.neurons as old
from psvit.errors import ModelError
from psvit.neurons import reset_state
from tests.compat.sequences import SEQUENCES, Sequence

CLOSE = 1e-12


def build(sequence: Sequence, kind: str | None = None) -> old.BaseNode:
    return getattr(old, kind or sequence.kind)(**sequence.arguments).double()


def column(values: tuple[float, ...]) -> Tensor:
    """``[T, N]`` with N = 3 equal neurons."""
    return torch.tensor(values, dtype=torch.float64).unsqueeze(1).repeat(1, 3)


@pytest.mark.parametrize("sequence", SEQUENCES, ids=lambda s: s.name)
def test_spikes_of_a_whole_sequence(sequence: Sequence) -> None:
    spikes = build(sequence)(column(sequence.x))
    assert torch.equal(spikes, column(sequence.spikes))


@pytest.mark.parametrize("sequence", SEQUENCES, ids=lambda s: s.name)
def test_voltage_after_every_step(sequence: Sequence) -> None:
    neuron = build(sequence)
    neuron.store_v_seq = True
    neuron(column(sequence.x))
    assert neuron.v_seq is not None
    # the learned time constant starts in float32, as it did
    close = 1e-7 if "Parametric" in sequence.kind else CLOSE
    assert (neuron.v_seq - column(sequence.voltages)).abs().max() <= close
    assert torch.equal(neuron.v, neuron.v_seq[-1])


@pytest.mark.parametrize("sequence", SEQUENCES, ids=lambda s: s.name)
def test_single_step_class_does_the_same_a_call(sequence: Sequence) -> None:
    neuron = build(sequence, sequence.kind.removeprefix("MultiStep"))
    steps = [neuron(x) for x in column(sequence.x)]
    assert torch.equal(torch.stack(steps), column(sequence.spikes))


def test_old_defaults() -> None:
    neuron = old.MultiStepLIFNode()
    assert (neuron.tau, neuron.decay_input, neuron.v_threshold, neuron.v_reset) == (2, True, 1, 0)
    assert neuron.detach_reset is False
    assert type(neuron.surrogate_function).__name__ == "Sigmoid"
    assert neuron.surrogate_function.alpha == 4.0


def test_the_arguments_come_in_the_old_order() -> None:
    neuron = old.MultiStepLIFNode(3.0, False, 0.5, None, None, True, "cupy")
    assert (neuron.tau, neuron.decay_input, neuron.v_threshold) == (3.0, False, 0.5)
    assert (neuron.v_reset, neuron.detach_reset) == (None, True)


def test_state_lasts_until_reset() -> None:
    neuron = old.MultiStepLIFNode().double()
    x = column((1.0,))
    assert not neuron(x).any()
    assert neuron(x * 2).all(), "0.5 + (2 - 0.5) / 2 is above the threshold"
    reset_state(neuron)
    assert neuron.v == 0.0
    assert not neuron(x).any()


def test_reset_restores_a_reset_voltage() -> None:
    neuron = old.MultiStepLIFNode(v_reset=-0.5)
    neuron(torch.ones(2, 3))
    neuron.reset()
    assert neuron.v == -0.5


def slope(u: float) -> float:
    """The gradient of Sigmoid(alpha=4) in place of the step's, at distance u from threshold."""
    s = 1 / (1 + math.exp(-4 * u))
    return 4 * s * (1 - s)


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("v_reset", [0.0, None, -0.5])
@pytest.mark.parametrize("x1", [1.0, 2.5], ids=["first step silent", "first step fires"])
def test_gradient_through_the_reset(x1: float, v_reset: float | None, detach: bool) -> None:
    # s2 by x1: s2 <- h2 <- v1 <- h1 <- x1, with dh/dv = dh/dx = 1/2
    rest = v_reset or 0.0
    h1 = rest + (x1 - 0.0) / 2
    s1 = float(h1 >= 1)
    if v_reset is None:
        v1, through = h1 - s1, 1 - (0 if detach else slope(h1 - 1))
    else:
        v1 = (1 - s1) * h1 + s1 * v_reset
        through = (1 - s1) + (0 if detach else (v_reset - h1) * slope(h1 - 1))
    h2 = v1 + (1.25 - (v1 - rest)) / 2
    expected = slope(h2 - 1) / 2 * through / 2

    neuron = old.MultiStepLIFNode(v_reset=v_reset, detach_reset=detach).double()
    x = torch.tensor([[x1], [1.25]], dtype=torch.float64, requires_grad=True)
    spikes = neuron(x)
    spikes[1].sum().backward()
    assert spikes[0].item() == s1
    assert x.grad is not None
    assert abs(x.grad[0].item() - expected) <= CLOSE
    assert abs(x.grad[1].item() - slope(h2 - 1) / 2) <= CLOSE


def test_plif_learns_its_time_constant() -> None:
    neuron = old.MultiStepParametricLIFNode(init_tau=4.0).double()
    assert list(neuron.state_dict()) == ["w"]
    assert abs(neuron.w.item() + math.log(3)) <= 1e-6
    neuron(torch.full((1, 1), 2.0, dtype=torch.float64)).sum().backward()
    # h = x * sigmoid(w), and sigmoid' = 1/4 * 3/4
    assert neuron.w.grad is not None
    assert abs(neuron.w.grad.item() - slope(0.5 - 1) * 2 * 3 / 16) <= 1e-6


def test_a_users_equation_is_obeyed() -> None:
    class Doubling(old.MultiStepLIFNode):
        def neuronal_charge(self, x: Tensor) -> None:
            self.v = self.v + 2 * x

    spikes = Doubling()(torch.tensor([[0.25], [0.25]]))
    assert spikes.flatten().tolist() == [0.0, 1.0]


def test_a_users_base_node_is_obeyed() -> None:
    class Mine(old.BaseNode):
        def neuronal_charge(self, x: Tensor) -> None:
            self.v = self.v + x

        def neuronal_reset(self, spike: Tensor) -> None:
            self.v = self.v - 0.5 * spike

    neuron = Mine(v_threshold=1.0)
    spikes = [neuron(torch.full((1,), 0.75)).item() for _ in range(3)]
    assert spikes == [0.0, 1.0, 1.0]
    assert neuron.v.item() == 0.75 * 3 - 0.5 * 2


def test_functional_forward_keeps_the_modules_state() -> None:
    neuron = old.MultiStepLIFNode().double()
    x = column((1.0, 1.5, 0.5, 3.0))
    (spikes,), (v,) = neuron.functional_forward((x,), (0.0,))
    assert torch.equal(spikes, column((0, 1, 0, 1)))
    assert torch.equal(v, torch.zeros(3, dtype=torch.float64))
    assert neuron.v == 0.0


@pytest.mark.parametrize("kind", ["IFNode", "LIFNode", "ParametricLIFNode"])
def test_they_are_spikingjelly_neurons(kind: str) -> None:
    neuron = getattr(old, f"MultiStep{kind}")()
    assert isinstance(neuron, getattr(current, kind))
    assert neuron.step_mode == "m"
    assert isinstance(neuron, getattr(old, kind))


def test_a_used_neuron_can_be_copied_after_reset() -> None:
    neuron = old.MultiStepParametricLIFNode()
    neuron(torch.ones(2, 3))
    neuron.reset()
    twin = copy.deepcopy(neuron)
    assert torch.equal(twin(torch.full((3, 2), 1.5)), neuron(torch.full((3, 2), 1.5)))


@pytest.mark.parametrize("backend", ["torch", "cupy"])
def test_backends_that_compute_the_same_are_taken(backend: str) -> None:
    assert old.MultiStepLIFNode(backend=backend)(torch.full((1, 1), 2.0)).item() == 1.0


def test_a_backend_that_computes_otherwise_is_refused() -> None:
    with pytest.raises(ModelError, match="backend 'lava' computes another neuron"):
        old.MultiStepLIFNode(backend="lava")


@pytest.mark.parametrize(("kind", "name"), [("LIFNode", "tau"), ("ParametricLIFNode", "init_tau")])
def test_a_time_constant_of_one_or_less_is_refused(kind: str, name: str) -> None:
    with pytest.raises(ModelError, match=f"{name} must be more than 1, got 1.0"):
        getattr(old, f"MultiStep{kind}")(**{name: 1.0})
