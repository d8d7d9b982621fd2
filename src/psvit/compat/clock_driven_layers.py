"""Layers and functions of ``spikingjelly.clock_driven`` that SpikingJelly 2 renamed."""

from __future__ import annotations

from typing import Any

import torch
from spikingjelly.activation_based import layer
from torch import Tensor, nn

from psvit.neurons import reset_state


class MultiStepDropout(layer.Dropout):  # type: ignore[misc]
    """Dropout on ``[T, N, *]`` with one mask for all T steps."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p, step_mode="m")


class MultiStepDropout2d(layer.Dropout2d):  # type: ignore[misc]
    """Channel dropout on ``[T, N, C, H, W]`` with one mask for all T steps."""

    def __init__(self, p: float = 0.2) -> None:
        super().__init__(p, step_mode="m")


def reset_net(net: nn.Module) -> None:
    """Forget every neuron's state; call between batches."""
    reset_state(net)


def tnx_to_nxt(x_seq: Tensor) -> Tensor:
    """``[T, N, *]`` to ``[N, *, T]``, Lava's order."""
    return torch.movedim(x_seq, 0, -1)


def nxt_to_tnx(x_seq: Tensor) -> Tensor:
    """``[N, *, T]`` to ``[T, N, *]``."""
    return torch.movedim(x_seq, -1, 0)


LAYERS: dict[str, Any] = {
    "MultiStepDropout": MultiStepDropout,
    "MultiStepDropout2d": MultiStepDropout2d,
    "MultiStepThresholdDependentBatchNorm1d": layer.ThresholdDependentBatchNorm1d,
    "MultiStepThresholdDependentBatchNorm2d": layer.ThresholdDependentBatchNorm2d,
    "MultiStepThresholdDependentBatchNorm3d": layer.ThresholdDependentBatchNorm3d,
    "MultiStepTemporalWiseAttention": layer.TemporalWiseAttention,
}
FUNCTIONS: dict[str, Any] = {"reset_net": reset_net}
LAVA: dict[str, Any] = {"TNX_to_NXT": tnx_to_nxt, "NXT_to_TNX": nxt_to_tnx}
