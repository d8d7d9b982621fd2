"""A model's forward and backward through torch.compile, and on a GPU as CUDA graphs.

Small spiking transformers are hundreds of short kernels a step. Compiled, batch norm, neurons and
additions become one pass over memory each; replayed, the kernels follow one another without
waiting for Python. The numbers are those of the model up to the order of sums, so a potential
close to its threshold may fall on the other side.
"""

from __future__ import annotations

import torch
from torch import nn


def compiled(model: nn.Module, device: torch.device) -> nn.Module:
    """``model``, compiled at its first batch, and again where T, tau or the size change.

    Shares weights and buffers with ``model``, which itself stays as it is.
    """
    mode = "reduce-overhead" if device.type == "cuda" else "default"
    found: nn.Module = torch.compile(model, dynamic=False, mode=mode)  # type: ignore[assignment]
    return found
