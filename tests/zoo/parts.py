"""What the models of the zoo share: sizes, neurons, and four frames around a body.

T steps, B batch, N tokens, C channels. Nine tokens and 24 channels: a mistake that takes one
for the other shows. Three heads of eight channels, unlike any other size here.
"""

from __future__ import annotations

from typing import Any

import torch
from spikingjelly.activation_based import layer, neuron
from torch import Tensor, nn

DIM, HEADS, HEAD_DIM, TOKENS, CLASSES = 24, 3, 8, 9, 5


def lif(step_mode: str = "s", **kwargs: Any) -> nn.Module:
    """A leaky integrate-and-fire neuron of SpikingJelly."""
    kwargs = {"tau": 2.0, "detach_reset": True, **kwargs}
    return neuron.LIFNode(step_mode=step_mode, **kwargs)


class OnMaps(nn.Module):
    """[B, 3, 6, 6] -> spikes [B, C, 3, 3] -> body -> mean over the map -> classes [B, K]."""

    def __init__(self, body: nn.Module, out: int = DIM, dim: int = DIM) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, dim, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(dim)
        self.lif = lif()
        self.body = body
        self.head = nn.Linear(out, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.lif(self.bn(self.stem(x))))
        return self.head(x.flatten(2).mean(-1))


class OnTokens(nn.Module):
    """[B, 3, 6, 6] -> spikes [B, N, C] -> body -> mean over tokens -> classes [B, K]."""

    def __init__(
        self, body: nn.Module, out: int = DIM, dim: int = DIM, *, residual: bool = False
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, dim, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(dim)
        self.lif = lif()
        self.body = body
        self.head = nn.Linear(out, CLASSES)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        x = self.lif(self.bn(self.stem(x))).flatten(2).transpose(1, 2)
        y = self.body(x)
        if self.residual:
            y = x + y
        return self.head(y.mean(1))


class OnSteps(nn.Module):
    """[B, 3, 6, 6] -> spikes [T, B, C, 3, 3] -> body -> mean over map and T -> classes [B, K]."""

    def __init__(self, body: nn.Module, steps: int, out: int = DIM, dim: int = DIM) -> None:
        super().__init__()
        self.T = steps
        self.stem = layer.Conv2d(3, dim, 3, stride=2, padding=1, bias=False, step_mode="m")
        self.bn = layer.BatchNorm2d(dim, step_mode="m")
        self.lif = lif("m")
        self.body = body
        self.head = nn.Linear(out, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1)
        x = self.body(self.lif(self.bn(self.stem(x))))
        return self.head(x.flatten(3).mean(-1).mean(0))


class OnTokenSteps(nn.Module):
    """[B, 3, 6, 6] -> spikes [T, B, N, C] -> body -> mean over tokens -> classes [T, B, K]."""

    def __init__(self, body: nn.Module, steps: int, out: int = DIM, dim: int = DIM) -> None:
        super().__init__()
        self.T = steps
        self.stem = layer.SeqToANNContainer(
            nn.Conv2d(3, dim, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(dim)
        )
        self.lif = lif("m")
        self.body = body
        self.head = layer.Linear(out, CLASSES, step_mode="m")

    def forward(self, x: Tensor) -> Tensor:
        x = (x.unsqueeze(0)).repeat(self.T, 1, 1, 1, 1)
        x = self.lif(self.stem(x)).flatten(3).transpose(-1, -2)
        return self.head((x + self.body(x)).mean(2))


class ConvBN(nn.Sequential):
    """Conv2d, BatchNorm2d, neuron."""

    def __init__(self, cin: int, cout: int, kernel: int = 1, **kwargs: Any) -> None:
        super().__init__(
            nn.Conv2d(cin, cout, kernel, padding=kernel // 2, bias=False, **kwargs),
            nn.BatchNorm2d(cout),
            lif(),
        )


class Spike(torch.autograd.Function):
    """Heaviside step with a rectangular surrogate gradient, as people write it themselves."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return grad * (x.abs() < 0.5).to(x.dtype)
