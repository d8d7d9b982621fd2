"""Surrogate functions of ``spikingjelly.clock_driven`` that SpikingJelly 2 has changed."""

from __future__ import annotations

from typing import Any

import torch
from spikingjelly.activation_based import surrogate
from torch import Tensor, nn


class SurrogateFunctionBase(surrogate.SurrogateFunctionBase):  # type: ignore[misc]
    """Base of users' own surrogates with one parameter: ``super().__init__(alpha, spiking)``."""

    def __init__(self, alpha: float, spiking: bool = True) -> None:
        super().__init__(spiking=spiking, alpha=alpha)

    def forward(self, x: Tensor) -> Tensor:
        function = self.spiking_function if self.spiking else self.primitive_function
        out: Tensor = function(x, self.alpha)
        return out


class MultiArgsSurrogateFunctionBase(nn.Module):
    """Base of users' own surrogates that keep their parameters themselves."""

    def __init__(self, spiking: bool, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.spiking = spiking

    def set_spiking_mode(self, spiking: bool) -> None:
        """True: spikes forward, surrogate gradient backward. False: the primitive function."""
        self.spiking = spiking


class PiecewiseLeakyReLU(surrogate.PiecewiseLeakyReLU):  # type: ignore[misc]
    """Gradient ``1 / w`` where ``|x| < w``, else ``c``; SpikingJelly 2 has half of the former."""

    @staticmethod
    def spiking_function(x: Tensor, w: float, c: float) -> Tensor:
        spikes: Tensor = _SteepStep.apply(x, w, c)  # type: ignore[no-untyped-call]
        return spikes


class _SteepStep(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: float, c: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.w, ctx.c = w, c
        return (x >= 0).to(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        inside = (x.abs() < ctx.w).to(x)
        return grads[0] * (inside / ctx.w + (1 - inside) * ctx.c), None, None


SURROGATES: dict[str, Any] = {
    kind.__name__: kind
    for kind in (SurrogateFunctionBase, MultiArgsSurrogateFunctionBase, PiecewiseLeakyReLU)
}
