"""Models of a few hundred parameters, and analyses of them that take a fraction of a second."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

import psvit
from psvit.records import Curves, Graph, Groups
from tests.zoo.case import float64
from tests.zoo.wake import wake

CLASSES = 5
GRID = (0.25, 0.5)


class Spiking(nn.Module):
    """Two convolutions with LIF neurons over four steps, and a head."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(
                layer.Conv2d(cin, width, 3, padding=1, bias=False),
                layer.BatchNorm2d(width),
                neuron.LIFNode(detach_reset=True),
            )
            for cin in (1, width)
        )
        self.head = nn.Linear(width, CLASSES)
        functional.set_step_mode(self.blocks, "m")

    def forward(self, x: Tensor) -> Tensor:
        x = x.unsqueeze(0).repeat(4, 1, 1, 1, 1)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((3, 4)))  # [T, B, K]


class Steps(nn.Module):
    """The same, but single-step: each neuron is called once a step, in turn with the others."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.blocks = Spiking(width).blocks
        self.head = nn.Linear(width, CLASSES)
        functional.set_step_mode(self.blocks, "s")

    def forward(self, x: Tensor) -> Tensor:
        out = []
        for step in range(4):
            now = x * (1 + 0.2 * step)
            for block in self.blocks:
                now = block(now)
            out.append(self.head(now.mean((2, 3))))
        return torch.stack(out)


class Writes(nn.Module):
    """Writes into values that were computed long before, through a view too, and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 6, 3, padding=1)
        self.second, self.second_out = nn.Conv2d(6, 8, 1), nn.Conv2d(8, 6, 1)
        self.third, self.third_out = nn.Conv2d(6, 8, 1), nn.Conv2d(8, 6, 1)
        self.head = nn.Linear(6, CLASSES)
        self.register_buffer("level", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        self.level.copy_(0.01 * x.sum())
        row = x[:, :, 0]
        y = self.second_out(torch.tanh(self.second(x)))
        row.mul_(0.5)
        x += y
        z = self.third_out(torch.tanh(self.third(x)))
        x.relu_()
        return self.head((x + z).mean((2, 3)) * torch.cos(self.level))


class Noisy(nn.Module):
    """Draws random numbers in eval mode too, before and after its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x.flatten(1) + 0.1 * torch.randn_like(x.flatten(1))))
        x = torch.relu(self.second(x))
        return self.head(x + 0.1 * torch.rand_like(x)), x


@dataclass(frozen=True)
class Tiny:
    """A model, its graph and groups, and labelled batches of 3 and 2 images."""

    model: nn.Module
    graph: Graph
    groups: Groups
    batches: list[tuple[Tensor, Tensor]]

    def analyse(self, **options: Any) -> Curves:
        """An analysis on all images."""
        options = {"grid": GRID, "n": 5, "saliency": "l1", "batches": self.batches} | options
        scores = psvit.saliency(self.graph, self.groups, options.pop("saliency"), 0)
        batches = options.pop("batches")
        return psvit.sensitivity(self.graph, self.groups, scores, batches, **options)


def tiny(model: type[nn.Module] = Spiking, seed: int = 0, **arguments: Any) -> Tiny:
    """The same for the same seed, in this process or another."""
    with float64(), torch.random.fork_rng():
        torch.manual_seed(seed)
        x = torch.rand(5, 1, 8, 8)
        y = torch.randint(CLASSES, (5,))
        net = wake(model(**arguments), (x,))
        graph = psvit.capture(net, x[:2])
        batches = [(x[:3], y[:3]), (x[3:], y[3:])]
        return Tiny(net, graph, psvit.find_groups(graph), batches)


def journal_of(folder: Path) -> Path:
    """Where tests keep a journal."""
    return folder / "sensitivity.json.journal"
