"""Time: neurons of every origin, loops over T, shifts along T."""

from __future__ import annotations

from collections.abc import Callable

import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn

from tests.zoo.case import Case, images
from tests.zoo.parts import CLASSES, DIM, OnMaps, OnSteps, Spike, lif

STEM = ("stem.weight:0", "bn.weight:0", "bn.running_var:0")


def conv_bn(cin: int, cout: int, kernel: int = 1) -> nn.Sequential:
    """Convolution and BN of SpikingJelly in multi-step mode, [T, B, C, H, W]."""
    return nn.Sequential(
        layer.Conv2d(cin, cout, kernel, padding=kernel // 2, bias=False, step_mode="m"),
        layer.BatchNorm2d(cout, step_mode="m"),
    )


class TemporalShift(nn.Module):
    """A quarter of the channels comes from the next step, a quarter from the step before."""

    def __init__(self, *, in_place: bool = True) -> None:
        super().__init__()
        self.in_place = in_place
        self.first, self.first_lif = conv_bn(DIM, 16), lif("m")
        self.second, self.second_lif = conv_bn(16, 20, 3), lif("m")

    def shift(self, x: Tensor) -> Tensor:
        c = x.shape[2]
        fold = c // 4
        out = torch.zeros_like(x)
        if self.in_place:
            out[:-1, :, :fold] = x[1:, :, :fold]
            out[1:, :, fold : 2 * fold] = x[:-1, :, fold : 2 * fold]
            out[:, :, 2 * fold :] = x[:, :, 2 * fold :]
            return out
        ahead = torch.cat([x[1:, :, :fold], out[:1, :, :fold]])
        behind = torch.roll(x[:, :, fold : 2 * fold], 1, dims=0)
        return torch.cat([ahead, behind, x[:, :, 2 * fold :]], dim=2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first_lif(self.first(x))
        return self.second_lif(self.second(self.shift(x)))


class Loop(nn.Module):
    """Single-step layers and neurons in a Python loop over T, outputs stacked."""

    def __init__(self, steps: int, how: str = "index") -> None:
        super().__init__()
        self.T, self.how = steps, how
        self.conv, self.bn, self.lif = nn.Conv2d(DIM, 16, 3, padding=1), nn.BatchNorm2d(16), lif()

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "index":
            frames = [x[t] for t in range(self.T)]
        elif self.how == "unbind":
            frames = list(x.unbind(0))
        else:
            frames = [part.squeeze(0) for part in torch.chunk(x, self.T, dim=0)]
        return torch.stack([self.lif(self.bn(self.conv(frame))) for frame in frames], dim=0)


class UserLIF(nn.Module):
    """A neuron without SpikingJelly: a loop over T, self.mem, its own autograd function."""

    def __init__(self, decay: float = 0.5) -> None:
        super().__init__()
        self.decay, self.v_threshold = decay, 1.0
        self.mem: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.mem = torch.zeros_like(x[0])
        spikes = []
        for t in range(x.shape[0]):
            self.mem = self.mem * self.decay + x[t]
            spike = Spike.apply(self.mem - self.v_threshold)
            self.mem = self.mem * (1 - spike.detach())
            spikes.append(spike)
        return torch.stack(spikes)


class UserStepLIF(nn.Module):
    """A single-step neuron that keeps its membrane between calls, until reset."""

    def __init__(self) -> None:
        super().__init__()
        self.v_threshold = 1.0
        self.mem: Tensor | float = 0.0

    def reset(self) -> None:
        """Forget."""
        self.mem = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.mem = self.mem + (x - self.mem) / 2.0
        spike = Spike.apply(self.mem - self.v_threshold)
        self.mem = self.mem - spike * self.v_threshold
        return spike


class UserPLIF(nn.Module):
    """A neuron with one learnt leak for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.leak = nn.Parameter(torch.randn(1, channels, 1, 1))
        self.v_threshold = 1.0

    def forward(self, x: Tensor) -> Tensor:
        mem, spikes = torch.zeros_like(x[0]), []
        for frame in x:
            mem = mem * torch.sigmoid(self.leak) + frame
            spike = Spike.apply(mem - self.v_threshold)
            mem = mem * (1 - spike)
            spikes.append(spike)
        return torch.stack(spikes)


class OwnNode(neuron.BaseNode):
    """A subclass of SpikingJelly's base with its own charge: v <- v / 2 + x^2 / 2."""

    def __init__(self) -> None:
        super().__init__(1.0, 0.0, surrogate.ATan(), True, step_mode="m")

    def single_step_functional_forward(self, inputs, states, **kwargs):  # type: ignore[no-untyped-def]
        """One step: spikes and the next membrane."""
        v = states[0] * 0.5 + inputs[0].square() * 0.5
        spike = self.surrogate_function(v - self.v_threshold)
        return (spike,), ((1 - spike.detach()) * v, *states[1:])


class Fired(nn.Module):
    """conv, BN, a given neuron, conv."""

    def __init__(self, node: nn.Module) -> None:
        super().__init__()
        self.conv, self.node, self.last = conv_bn(DIM, 16, 3), node, conv_bn(16, 20)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.node(self.conv(x)))


class Rates(nn.Module):
    """Steps inside: a static image, T from an attribute, logits averaged at the end."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.T = steps
        self.conv = layer.SeqToANNContainer(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16))
        self.lif1 = lif("m")
        self.fc1, self.lif2 = layer.Linear(16, 20, step_mode="m"), lif("m")
        self.fc2 = layer.SeqToANNContainer(nn.Linear(20, CLASSES))
        functional.set_step_mode(self.fc1, "m")

    def forward(self, x: Tensor) -> Tensor:
        x = torch.stack([x] * self.T) if self.T < 3 else x.expand(self.T, *x.shape)
        x = self.lif1(self.conv(x)).mean((-2, -1))
        return self.fc2(self.lif2(self.fc1(x))).sum(0) / self.T


class Weighted(nn.Module):
    """A learnt weight for each step, and a mean over T of what remains."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(steps, 1, 1, 1, 1) + 0.5)
        self.conv, self.lif, self.last = conv_bn(DIM, 16), lif("m"), nn.Conv2d(16, DIM, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = (self.lif(self.conv(x)) * self.weight).mean(0)
        return x + self.last(y)


def on_steps(body: Callable[[], nn.Module], steps: int, *axes: str, out: int = DIM) -> Case:
    """A body over ``steps`` time steps."""
    return Case(
        lambda: OnSteps(body(), steps, out), images(), (*STEM, *(f"body.{a}" for a in axes))
    )


FIRED = ("conv.0.weight:0", "conv.1.bias:0", "last.0.weight:1", "last.0.weight:0")
SHIFT = ("first.0.weight:0", "first.1.weight:0", "second.0.weight:1", "second.0.weight:0")

CASES = {
    "temporal_shift_t1": on_steps(TemporalShift, 1, *SHIFT, out=20),
    "temporal_shift_t4": on_steps(TemporalShift, 4, *SHIFT, out=20),
    "temporal_shift_concatenated": on_steps(
        lambda: TemporalShift(in_place=False), 4, *SHIFT, out=20
    ),
    "loop_t1": on_steps(lambda: Loop(1), 1, "conv.weight:0", "conv.weight:1", out=16),
    "loop_t4": on_steps(lambda: Loop(4), 4, "conv.weight:0", "conv.weight:1", out=16),
    "loop_unbind": on_steps(lambda: Loop(4, "unbind"), 4, "conv.weight:0", out=16),
    "loop_chunk": on_steps(lambda: Loop(4, "chunk"), 4, "conv.weight:0", out=16),
    "user_lif_t1": on_steps(lambda: Fired(UserLIF()), 1, *FIRED, out=20),
    "user_lif_t4": on_steps(lambda: Fired(UserLIF()), 4, *FIRED, out=20),
    "user_plif_t4": on_steps(lambda: Fired(UserPLIF(16)), 4, *FIRED, "node.leak:1", out=20),
    "user_step_lif": Case(
        lambda: OnMaps(nn.Sequential(nn.Conv2d(DIM, 16, 3), nn.BatchNorm2d(16), UserStepLIF()), 16),
        images(),
        (*STEM, "body.0.weight:0"),
    ),
    "own_base_node_t1": on_steps(lambda: Fired(OwnNode()), 1, *FIRED, out=20),
    "own_base_node_t4": on_steps(lambda: Fired(OwnNode()), 4, *FIRED, out=20),
    "parametric_lif": on_steps(
        lambda: Fired(neuron.ParametricLIFNode(2.0, step_mode="m")), 4, *FIRED, out=20
    ),
    "integrate_and_fire": on_steps(
        lambda: Fired(neuron.IFNode(v_reset=None, step_mode="m")), 4, *FIRED, out=20
    ),
    "rates_t1": Case(lambda: Rates(1), images(), ("conv.0.weight:0", "fc1.weight:0")),
    "rates_t4": Case(
        lambda: Rates(4), images(), ("conv.0.weight:0", "fc1.weight:0", "fc2.0.weight:1")
    ),
    "weighted_steps": Case(
        lambda: OnSteps(Weighted(4), 4), images(), (*STEM, "body.conv.0.weight:0")
    ),
}
