"""The layout that CPUs compute in, channels last, and 1x1 convolutions as what they are there.

A convolution whose weight lies channels last writes its output so, too, and what is computed
element by element keeps the layout of its input: so it spreads from the weights, and images are
not moved to another layout and back at every layer. Where a forward takes views that need the
other layout, the weights stay as they are.

There a 1x1 convolution is one product of matrices, y[n, o] = sum over i of x[n, i] w[o, i], and its
weight need not be brought into blocks at each call, which takes longer than the product where
images are few and small.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class Pointwise(nn.Module):
    """A convolution of one pixel, under the names of its parameters: ``[B, C, *]``, or ``[T, B, C,
    *]`` where ``layer`` took that. A product of matrices if channels lie last, else as before."""

    def __init__(self, layer: nn.Conv1d | nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.axes = len(layer.kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """Raises what a convolution raises for other shapes."""
        channels = x.ndim - self.axes - 1
        moved = x.movedim(channels, -1)
        if moved.is_contiguous():
            return functional.linear(moved, self.weight.flatten(1), self.bias).movedim(-1, channels)
        convolve = functional.conv1d if self.axes == 1 else functional.conv2d
        if channels < 2:
            return convolve(x, self.weight, self.bias)
        y = convolve(x.flatten(0, 1), self.weight, self.bias)
        return y.view(*x.shape[:2], *y.shape[1:])


def channels_last(model: nn.Module, inputs: Sequence[Tensor]) -> nn.Module:
    """``model``, whose convolutions are changed, in place, if its forward then still runs."""
    layers = [one for one in model.modules() if isinstance(one, nn.Conv2d)]
    _lay(layers, torch.channels_last)
    try:
        with torch.no_grad():
            model(*(x.clone() for x in inputs))
    except RuntimeError:
        _lay(layers, torch.contiguous_format)
        return model
    for parent, name, layer in list(_pointwise(model)):
        setattr(parent, name, Pointwise(layer).eval())
    return model


def _lay(layers: Sequence[nn.Conv2d], layout: torch.memory_format) -> None:
    for layer in layers:
        layer.weight.data = layer.weight.data.to(memory_format=layout)


def _pointwise(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Conv1d | nn.Conv2d]]:
    """Where convolutions of one pixel, of PyTorch's or SpikingJelly's own classes, are."""
    for parent in model.modules():
        for name, layer in parent._modules.items():
            if isinstance(layer, nn.Conv1d | nn.Conv2d) and _is_pointwise(layer):
                yield parent, name, layer


def _is_pointwise(layer: nn.Conv1d | nn.Conv2d) -> bool:
    kind = type(layer)
    return (
        kind.__name__ in ("Conv1d", "Conv2d")
        and kind.__module__.startswith(("torch.nn.", "spikingjelly."))
        and not (layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer))
        and set(layer.kernel_size) == set(layer.stride) == {1}
        and set(layer.padding) == {0}
        and layer.groups == 1
    )
