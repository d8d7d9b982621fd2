"""Two-dimensional convolutions in the layout that CPUs compute them in: channels last.

A convolution whose weight lies channels last writes its output so, too, and what is computed
element by element keeps the layout of its input: so it spreads from the weights, and images are
not moved to another layout and back at every layer. Where a forward takes views that need the
other layout, the weights stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def channels_last(model: nn.Module, inputs: Sequence[Tensor]) -> nn.Module:
    """``model``, whose convolution weights lie channels last if its forward then still runs."""
    layers = [one for one in model.modules() if isinstance(one, nn.Conv2d)]
    _lay(layers, torch.channels_last)
    try:
        with torch.no_grad():
            model(*(x.clone() for x in inputs))
    except RuntimeError:
        _lay(layers, torch.contiguous_format)
    return model


def _lay(layers: Sequence[nn.Conv2d], layout: torch.memory_format) -> None:
    for layer in layers:
        layer.weight.data = layer.weight.data.to(memory_format=layout)
