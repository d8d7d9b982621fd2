"""Small models in float64, each with a way to lose channels without losing anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn
from torch.nn import functional as F

import psvit
from psvit.calibrate import Consumer, Moments, collect, list_consumers
from psvit.records import Graph, Group, Groups
from tests.zoo.case import float64
from tests.zoo.wake import wake


class Spikes(nn.Module):
    """A padded and a strided convolution, a linear layer; LIF neurons over two steps."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(layer.Conv2d(2, 8, 3, padding=1), layer.BatchNorm2d(8))
        self.second = nn.Sequential(
            layer.Conv2d(8, 12, 3, stride=2, padding=1, bias=False), layer.BatchNorm2d(12)
        )
        self.third = nn.Linear(12, 10, bias=False)  # nothing can absorb its constant
        self.lifs = nn.ModuleList(neuron.LIFNode(detach_reset=True) for _ in range(3))
        self.head = nn.Linear(10, 5)
        functional.set_step_mode(self, "m")

    def forward(self, x: Tensor) -> Tensor:
        x = x.unsqueeze(0).repeat(2, 1, 1, 1, 1)
        x = self.lifs[0](self.first(x))
        x = self.lifs[1](self.second(x))
        x = self.lifs[2](self.third(x.flatten(3).transpose(2, 3)))
        return self.head(x.mean((0, 2)))


class Mixed(nn.Module):
    """Grouped, depthwise and functional operations in a chain without spikes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2, bias=False)
        self.grouped_norm = nn.BatchNorm2d(8)
        self.wide = nn.Conv2d(8, 12, 1, bias=False)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False)
        self.narrow = nn.Conv2d(12, 6, 1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.weight = nn.Parameter(torch.randn(9, 6))
        self.head = nn.Linear(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.grouped_norm(self.grouped(self.stem_norm(self.stem(x))))
        x = self.norm(self.narrow(self.depthwise(self.wide(x))))
        return self.head(torch.tanh(F.linear(x.flatten(2).mean(2), self.weight)))


class Attention(nn.Module):
    """Two heads of three channels, without a softmax or spikes."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(3, 6, bias=False) for _ in range(3))
        self.proj = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            f(x.flatten(2).transpose(1, 2)).reshape(x.shape[0], 36, 2, 3).transpose(1, 2)
            for f in (self.q, self.k, self.v)
        )
        return self.proj(self.attend(q, k, v).transpose(1, 2).flatten(2).mean(1))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """``[B, H, N, D]`` each."""
        return (q @ k.transpose(-2, -1)) @ v


class Fused(Attention):
    """With a softmax, in torch's one operation."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v)


@dataclass(frozen=True)
class Ready:
    """A model, what psvit finds in it, images and their moments (all rows)."""

    model: nn.Module
    graph: Graph
    groups: Groups
    images: list[Tensor]
    consumers: tuple[Consumer, ...]
    moments: Moments

    def group(self, axis: str) -> Group:
        """The group on an axis, such as ``first.0.weight:0``."""
        tensor, dim = axis.split(":")
        return next(
            g for g in self.groups for s in g.slots if s.tensor == tensor and str(s.dim) == dim
        )

    def consumer(self, name: str) -> Consumer:
        """The consumer of this layer."""
        return next(c for c in self.consumers if c.name == name)


def ready(
    build: Callable[[], nn.Module],
    *,
    channels: int = 3,
    count: int = 8,
    change: Callable[[nn.Module], None] | None = None,
) -> Ready:
    """A live model; ``change`` alters its weights first, the same for the same arguments."""
    with float64(), torch.random.fork_rng():
        torch.manual_seed(0)
        images = torch.rand(count, channels, 6, 6)
        model = wake(build(), (images,))
        if change is not None:
            with torch.no_grad():
                change(model)
        graph = psvit.capture(model, images[:2])
        groups = psvit.find_groups(graph)
        consumers = list_consumers(graph, groups)
        batches = [images[:5], images[5:]]
        return Ready(model, graph, groups, batches, consumers, collect(graph, consumers, batches))
