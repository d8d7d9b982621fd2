"""A small model with a fork, a residual stream and state, fast enough to prune in each test."""

from __future__ import annotations

import torch
from torch import nn

import psvit
from psvit.records import Result, Source

SOURCE = Source("tests.artefacts.models:Net", {"width": 12})


class Net(nn.Module):
    def __init__(self, width: int = 12, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.up = nn.Conv2d(width, 2 * width, 1)
        self.mix = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=4)
        self.down = nn.Conv2d(2 * width, width, 1)
        self.head = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn(self.stem(x)))
        x = x + self.down(torch.relu(self.mix(torch.relu(self.up(x)))))
        return self.head(x.mean((2, 3)))


def trained(width: int = 12, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A model with statistics and weights that are not the initial ones."""
    torch.manual_seed(3)
    model = Net(width).to(dtype)
    model.train()
    model(torch.randn(8, 1, 8, 8, dtype=dtype))
    return model.eval()


def images(batch: int = 3, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(batch, 1, 8, 8, generator=torch.Generator().manual_seed(1)).to(dtype)


def pruned(save: float = 0.3, *, model: nn.Module | None = None, source=SOURCE) -> Result:
    return psvit.prune(model or trained(), images(), save={"memory": save}, source=source)
