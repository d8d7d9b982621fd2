"""Self-attention on the spikes of neurons that people write themselves.

q @ k loses nothing by losing a channel only if a removed channel stays silent. That follows from
what the neuron does with an input of 0, step by step.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

from tests.zoo.attention import QKV
from tests.zoo.case import Case, images
from tests.zoo.parts import DIM, HEADS, TOKENS, OnTokenSteps, Spike
from tests.zoo.temporal import UserLIF, UserStepLIF


class Buffered(nn.Module):
    """Leak and threshold are buffers; the reset subtracts."""

    def __init__(self, threshold: float | None = None) -> None:
        super().__init__()
        self.fixed_threshold = threshold is not None
        self.register_buffer("beta", torch.tensor(0.5))
        self.register_buffer("threshold", torch.tensor(threshold or 1.0))

    @property
    def v_threshold(self) -> float:
        """The threshold as a number, for whoever sets it."""
        return float(self.threshold)

    @v_threshold.setter
    def v_threshold(self, value: float) -> None:
        self.threshold.fill_(value)

    def forward(self, x: Tensor) -> Tensor:
        mem, spikes = torch.zeros_like(x[0]), []
        for frame in x:
            mem = self.beta.clamp(0, 1) * mem + frame
            spike = Spike.apply(mem - self.threshold)
            mem = mem - spike.detach() * self.threshold
            spikes.append(spike)
        return torch.stack(spikes)


class Resting(nn.Module):
    """Drawn towards 0.3, reset to 0.25: a silent membrane is not 0, but below the threshold."""

    def forward(self, x: Tensor) -> Tensor:
        v, out = torch.full_like(x[0], 0.25), torch.empty_like(x)
        for t in range(x.shape[0]):
            v = v + (4 * x[t] - (v - 0.3)) / 2.0
            spike = Spike.apply(v - 1.0)
            v = torch.where(spike > 0, torch.full_like(v, 0.25), v)
            out[t] = spike
        return out


class Step(nn.Module):
    """The step as a module, moved to a threshold."""

    def forward(self, x: Tensor) -> Tensor:
        return Spike.apply(x)


class Stepped(nn.Module):
    """A neuron whose step is a module of its own, and whose reset is a product."""

    def __init__(self) -> None:
        super().__init__()
        self.act = Step()

    def forward(self, x: Tensor) -> Tensor:
        mem: Tensor | float = 0.0
        spike: Tensor | float = 0.0
        out = []
        for t in range(x.size(0)):
            mem = mem * 0.25 * (1 - spike) + x[t]
            spike = self.act(mem - 0.5)
            out.append(spike)
        return torch.stack(out, dim=0)


class Levels(nn.Module):
    """Integer-valued spikes from 0 to 4, reset by subtraction."""

    def forward(self, x: Tensor) -> Tensor:
        v, out = torch.zeros_like(x[0]), []
        for frame in x:
            v = v * 0.25 + frame
            spike = torch.round(torch.clamp(v, 0, 4))
            v = v - spike
            out.append(spike)
        return torch.stack(out)


class Learnt(Buffered):
    """Leak and threshold are learnt."""

    def __init__(self) -> None:
        super().__init__()
        beta, threshold = self.beta, self.threshold
        del self.beta, self.threshold
        self.beta, self.threshold = nn.Parameter(beta), nn.Parameter(threshold)


class Parallel(nn.Module):
    """All steps at once: a learnt mix of the inputs of all, a learnt threshold for each.

    Fang et al., "Parallel Spiking Neurons", NeurIPS 2023, equations 8 and 9.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(steps, steps))
        self.bias = nn.Parameter(torch.zeros(steps, 1))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.addmm(self.bias, self.weight, x.flatten(1))
        return Spike.apply(h).view(x.shape)


class Attention(nn.Module):
    """[T, B, N, C] -> q, k, v, a neuron behind each -> (q k^T) v -> neuron -> projection."""

    def __init__(self, node: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(DIM, DIM) for _ in range(3))
        self.q_lif, self.k_lif, self.v_lif, self.lif = (node() for _ in range(4))
        self.proj = nn.Linear(DIM, DIM)

    def forward(self, x: Tensor) -> Tensor:
        t, b, n, c = x.shape
        q, k, v = (
            fire(fc(x)).reshape(t, b, n, HEADS, c // HEADS).transpose(2, 3)
            for fc, fire in ((self.q, self.q_lif), (self.k, self.k_lif), (self.v, self.v_lif))
        )
        x = self.lif(q @ k.transpose(-2, -1) @ v * 0.5)
        return self.proj(x.transpose(2, 3).reshape(t, b, n, c))


class OneByOne(nn.Module):
    """A neuron for one step, called on one step after another."""

    def __init__(self) -> None:
        super().__init__()
        self.node = UserStepLIF()

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.node(frame) for frame in x])


class Complement(nn.Module):
    """q @ k of complements of spikes: a removed channel holds 1, and what ``then`` makes of it."""

    def __init__(self, then: nn.Module) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(DIM, DIM, bias=False) for _ in range(3))
        self.lif, self.then, self.proj = UserLIF(), then, nn.Linear(DIM, DIM)

    def forward(self, x: Tensor) -> Tensor:
        q, k = (self.then(1 - self.lif(fc(x))) for fc in (self.q, self.k))
        return self.proj(q @ k.transpose(-2, -1) @ self.v(x))


class Back(nn.Module):
    """The complement of the complement, as far as a dropout between them leaves it alone."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return 1 - self.dropout(x)


class Chosen(nn.Module):
    """Every other token becomes 0; the others keep what they are."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("chosen", torch.arange(TOKENS) % 2 == 0)

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(self.chosen[:, None], torch.zeros_like(x), x)


class Shifted(nn.Module):
    """The complement of the complement, moved by one token; the first becomes ``value``."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(1 - x, (0, 0, 1, 0), value=self.value)[..., :-1, :]


def behind(node: Callable[[], nn.Module]) -> Case:
    """Attention behind a neuron that is silent without input."""
    return Case(
        lambda: OnTokenSteps(Attention(node), 4),
        images(),
        (*QKV, "head.weight:1", "stem.0.weight:0"),
        heads=HEADS,
    )


def restless(node: Callable[[], nn.Module]) -> Case:
    """Attention behind a neuron that fires without input."""
    why = "a removed channel would fire and count in q @ k"
    return Case(
        lambda: OnTokenSteps(Attention(node), 4),
        images(),
        ("head.weight:1", "stem.0.weight:0"),
        {"body.q.weight:0": why, "body.k.weight:0": why},
    )


def complement(then: Callable[[], nn.Module], why: str = "") -> Case:
    """Attention on complements; ``why`` its q and k stay, if they do."""
    paths = ("body.q.weight:0", "body.k.weight:0")
    return Case(
        lambda: OnTokenSteps(Complement(then()), 4),
        images(),
        ("body.proj.weight:0", "stem.0.weight:0", *(() if why else paths)),
        dict.fromkeys(paths, why) if why else {},
    )


def parallel(node: nn.Module, low: float = 0.1, high: float = 0.4) -> nn.Module:
    """A neuron that sees all steps at once, lively, with thresholds from low to high."""
    with torch.no_grad():
        node.weight.normal_(0.5, 0.5)
        node.bias.copy_(-torch.linspace(low, high, node.bias.numel()).reshape(node.bias.shape))
    return node


CASES = {
    "complement_of_complement": complement(Back),
    "complement_dropped": complement(lambda: Back(0.02), "a dropped 1 leaves a removed channel 1"),
    "complement_chosen": complement(Chosen, "a removed channel is 1 at half of the tokens"),
    "complement_shifted": complement(lambda: Shifted(0.0)),
    "complement_padded": complement(lambda: Shifted(1.0), "a removed channel is 1 at one token"),
    "own_lif_attention": behind(UserLIF),
    "own_step_lif_attention": behind(OneByOne),
    "buffered_attention": behind(Buffered),
    "resting_attention": behind(Resting),
    "stepped_attention": behind(Stepped),
    "levels_attention": behind(Levels),
    "learnt_threshold_attention": behind(Learnt),
    "parallel_attention": behind(lambda: parallel(Parallel(4))),
    "psn_attention": behind(lambda: parallel(neuron.PSN(4))),
    "masked_psn_attention": behind(lambda: parallel(neuron.MaskedPSN(2, 4, step_mode="m"))),
    "sliding_psn_attention": behind(lambda: parallel(neuron.SlidingPSN(2, step_mode="m"))),
    "restless_parallel_attention": restless(lambda: parallel(Parallel(4), -0.1)),
    "restless_psn_attention": restless(lambda: parallel(neuron.PSN(4), -0.1)),
    "restless_attention": restless(lambda: Buffered(-0.1)),
}
