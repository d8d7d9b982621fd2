"""Models that take frames with T first, as SpikingJelly's do, fed with B first.

T steps, B batch, C channels, H height, W width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from psvit.errors import ModelError
from psvit.pointer import resolved


def batch_first(of: str, **arguments: Any) -> nn.Module:
    """The model that `of` builds ("package.module:factory", "path/to/file.py:factory") with
    `arguments`, which then takes ``[B, T, C, H, W]`` where it took ``[T, B, C, H, W]``.

    Names of parameters and what it returns stay as they are, so that checkpoints fit. On the
    command line: ``psvit.models.time_first:batch_first --model-arg of=net.py:Net``.

    Raises ModelError for what is no model, or as `of` itself does.
    """
    with resolved(of) as (factory, _):
        model = factory(**arguments)
    if not isinstance(model, nn.Module):
        raise ModelError(f"{of} returns {type(model).__name__}, expected an nn.Module")
    taken = type(model)

    def forward(self: nn.Module, frames: torch.Tensor) -> Any:
        return taken.forward(self, frames.transpose(0, 1))

    swapped = {"forward": forward, "__module__": taken.__module__, "__doc__": taken.__doc__}
    model.__class__ = type(taken.__name__, (taken,), swapped)
    return model
