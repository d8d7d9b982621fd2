"""Neurons that fire whole numbers: spike firing approximation (Yao et al., 2411.16061, section 4).

Trained at one time step with values 0, 1, ..., D; a value of k stands for k spikes that a chip
fires one after the other, over D time steps.

    s = round(clip(x, 0, D)) / D

Gradient: that of the clip, straight through the rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class IntegerSpikes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, levels: int) -> Tensor:
        ctx.save_for_backward(x)
        ctx.levels = levels
        return x.clamp(0, levels).round()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        inside = (x >= 0) & (x <= ctx.levels)
        return grads[0] * inside, None


class IntegerNeuron(nn.Module):
    """``levels`` is D; ``unit`` what one spike is worth, 1 / D if None. Any shape, stateless."""

    def __init__(self, levels: int = 4, unit: float | None = None) -> None:
        super().__init__()
        self.levels = levels
        self.unit = 1.0 / levels if unit is None else unit

    def forward(self, x: Tensor) -> Tensor:
        """Potentials -> ``unit`` times 0, 1, ..., ``levels``."""
        fire: Any = IntegerSpikes.apply  # torch ships no signature for it
        spikes: Tensor = fire(x, self.levels)
        return spikes * self.unit

    def extra_repr(self) -> str:
        """What tells one from another."""
        return f"levels={self.levels}, unit={self.unit}"
