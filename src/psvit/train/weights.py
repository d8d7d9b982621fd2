"""What training does to the weights of a model besides a step of the optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from psvit.neurons import reset_state


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """For an optimizer: biases and the parameters of norms do not decay."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def lay_out(model: Any, layout: torch.memory_format) -> None:
    """Put the weights into another order in memory, in place."""
    model.to(memory_format=layout)  # torch's types know no such call


def runs_channels_last(model: nn.Module, images: torch.Tensor) -> bool:
    """Whether the forward can do with ``channels_last`` weights: some take views that need others.

    ``images``: ``[B, C, H, W]``, or frames ``[B, T, P, H, W]``, on the model's device. Afterwards
    the weights lie in the usual order.
    """
    modes = {module: module.training for module in model.modules()}
    try:
        lay_out(model.eval(), torch.channels_last)
        reset_state(model)
        with torch.no_grad():
            model(images)
    except RuntimeError:
        return False
    finally:
        lay_out(model, torch.contiguous_format)
        reset_state(model)
        for module, mode in modes.items():
            module.training = mode
    return True


def copied(model: nn.Module) -> dict[str, torch.Tensor]:
    """The state dict, with memory of its own."""
    return {k: v.detach().clone() for k, v in model.state_dict().items()}


def move_average(average: Mapping[str, torch.Tensor], model: nn.Module, decay: float) -> None:
    """Move the ``average`` of the weights towards those of ``model``, in place."""
    state = model.state_dict()
    for name, tensor in average.items():
        if tensor.is_floating_point():
            tensor.lerp_(state[name].detach(), 1 - decay)
        else:
            tensor.copy_(state[name])
