"""The inputs of a linear operation as rows: ``output = rows @ weight.reshape(G, O, c)^T``.

G convolution groups, n rows (an output position of an image and time step each), c columns.
A padded convolution is unfolded, so the zeros of its border are in the rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional
from torch.nn.modules.conv import _ConvNd

CHUNK_ELEMENTS = 1 << 24
"""Elements that are unfolded at a time (64 MiB in float32)."""


@dataclass(frozen=True)
class Geometry:
    """How a layer looks at its input. ``kernel`` () is a linear layer, over the last axis.

    Otherwise it is a convolution over the last ``len(kernel)`` axes, with channels before them.
    ``padding``: (before, after) of each axis; ``mode``: what fills it, as torch names it.
    """

    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    mode: str = "zeros"

    @property
    def taps(self) -> int:
        """K: kernel positions, 1 for a linear layer."""
        return prod(self.kernel)

    @property
    def pointwise(self) -> bool:
        """Whether each output position reads one input position, the same."""
        return (
            self.taps == 1
            and all(s == 1 for s in self.stride)
            and not any(p for pair in self.padding for p in pair)
        )


def geometry_of_layer(layer: nn.Module) -> Geometry:
    """Of an ``nn.Linear`` or a convolution that is not transposed."""
    if not isinstance(layer, _ConvNd):
        return Geometry()
    return _convolution(
        tuple(layer.kernel_size),
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.groups,
        layer.padding_mode,
    )


def geometry_of_call(node: fx.Node) -> Geometry | None:
    """Of ``F.linear`` or ``F.conv*d``; None for anything else."""
    if getattr(node.target, "__module__", "") == "psvit_recorded":
        return None
    name = getattr(node.target, "__name__", "")
    if name == "linear":
        return Geometry()
    if name not in ("conv1d", "conv2d", "conv3d"):
        return None
    rank = int(name[4])

    def argument(position: int, key: str, default: Any) -> Any:
        value = node.args[position] if len(node.args) > position else node.kwargs.get(key)
        return default if value is None else _plain(value)

    weight = node.args[1] if len(node.args) > 1 else node.kwargs["weight"]
    if not isinstance(weight, fx.Node) or "shape" not in weight.meta:
        return None
    return _convolution(
        tuple(int(k) for k in weight.meta["shape"][2:]),
        _each(argument(3, "stride", 1), rank),
        argument(4, "padding", 0),
        _each(argument(5, "dilation", 1), rank),
        int(argument(6, "groups", 1)),
        "zeros",
    )


def count_rows(geometry: Geometry, shape: torch.Size | tuple[int, ...]) -> int:
    """Rows of an input of this shape."""
    if not geometry.kernel:
        return prod(shape[:-1])
    rank = len(geometry.kernel)
    return prod(shape[: -rank - 1]) * prod(_outputs(geometry, tuple(shape[-rank:])))


def patches(
    geometry: Geometry, x: torch.Tensor, rows: torch.Tensor | None = None
) -> Iterator[torch.Tensor]:
    """The rows of ``x`` in chunks ``[G, m, c]``, those of index ``rows`` alone if given.

    ``x`` is ``[..., I]`` for a linear layer and ``[..., G * I, *spatial]`` for a convolution;
    leading axes (T, B) are folded into the rows. In the dtype of ``x``.
    """
    view = _windows(geometry, x)  # [N, *out, *kernel, G * I], channels next to one another
    rank = len(geometry.kernel)
    sizes = view.shape[: rank + 1]
    total, width, taps = prod(sizes), prod(view.shape[rank + 1 :]), geometry.taps
    step = max(1, CHUNK_ELEMENTS // max(width, 1))
    if rows is None:
        rows = torch.arange(total, device=x.device)
    for some in torch.split(rows, step):
        places = torch.unravel_index(some, sizes)
        chunk = view[places].reshape(len(some), taps, geometry.groups, -1)
        yield chunk.permute(2, 0, 3, 1).reshape(geometry.groups, len(some), -1)


def _windows(geometry: Geometry, x: torch.Tensor) -> torch.Tensor:
    rank = len(geometry.kernel)
    if not rank:
        return x.reshape(-1, x.shape[-1])
    x = x.reshape(-1, *x.shape[-rank - 1 :])
    pads = [p for pair in reversed(geometry.padding) for p in pair]
    if any(pads):
        mode = "constant" if geometry.mode == "zeros" else geometry.mode
        x = functional.pad(x, pads, mode=mode)
    x = x.movedim(1, -1).contiguous()
    for axis in range(rank):
        size = geometry.dilation[axis] * (geometry.kernel[axis] - 1) + 1
        x = x.unfold(1 + axis, size, geometry.stride[axis])[..., :: geometry.dilation[axis]]
    return x.movedim(1 + rank, -1)


def _outputs(geometry: Geometry, sizes: tuple[int, ...]) -> list[int]:
    return [
        (size + sum(padding) - dilation * (kernel - 1) - 1) // stride + 1
        for size, kernel, stride, padding, dilation in zip(
            sizes,
            geometry.kernel,
            geometry.stride,
            geometry.padding,
            geometry.dilation,
            strict=True,
        )
    ]


def _convolution(
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: Any,
    dilation: tuple[int, ...],
    groups: int,
    mode: str,
) -> Geometry:
    if padding == "same":
        spans = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        pairs = tuple((span // 2, span - span // 2) for span in spans)
    elif padding == "valid":
        pairs = ((0, 0),) * len(kernel)
    else:
        pairs = tuple((p, p) for p in _each(padding, len(kernel)))
    return Geometry(kernel, tuple(stride), pairs, tuple(dilation), groups, mode)


def _each(value: Any, rank: int) -> tuple[int, ...]:
    numbers = [value] * rank if isinstance(value, int) else list(value)
    return tuple(int(n) for n in (numbers * rank if len(numbers) == 1 else numbers))


def _plain(value: Any) -> Any:
    """An argument with sizes that the recording kept dynamic as numbers."""
    if isinstance(value, fx.Node):
        return value.meta.get("value", value)
    if isinstance(value, tuple | list):
        return tuple(_plain(item) for item in value)
    return value
