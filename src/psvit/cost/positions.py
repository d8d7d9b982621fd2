"""How many outputs of a convolution each position of its input reaches, axis by axis.

The kernel slides over each axis alone, so the count at a position is the product of the counts
along its axes. Borders are exact: a value at the edge reaches fewer outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from psvit.records import IntArray


@dataclass(frozen=True)
class Axis:
    """The convolution along one spatial axis. ``mode``: torch's name of the padding mode."""

    kernel: int
    stride: int = 1
    padding: int | str = 0
    dilation: int = 1
    mode: str = "zeros"
    transposed: bool = False
    output_padding: int = 0


def reach(axis: Axis, size: int) -> IntArray:
    """Outputs times kernel taps that each of the ``size`` positions takes part in, ``[size]``.

    >>> reach(Axis(kernel=3, padding=1), 4).tolist()
    [2, 3, 3, 2]
    """
    span = axis.dilation * (axis.kernel - 1)
    taps = np.arange(axis.kernel) * axis.dilation
    if axis.transposed:
        padding = int(axis.padding)
        outputs = (size - 1) * axis.stride - 2 * padding + span + axis.output_padding + 1
        hit = np.arange(size)[:, None] * axis.stride - padding + taps
        return np.asarray(((hit >= 0) & (hit < outputs)).sum(1), dtype=np.int64)
    if isinstance(axis.padding, str):
        whole = span if axis.padding == "same" else 0
        left = whole // 2
    else:
        left, whole = axis.padding, 2 * axis.padding
    outputs = (size + whole - span - 1) // axis.stride + 1
    position = (np.arange(outputs)[:, None] * axis.stride + taps - left).ravel()
    if axis.mode == "circular":
        position %= size
    elif axis.mode == "replicate":
        position = position.clip(0, size - 1)
    elif axis.mode == "reflect":
        position = np.abs(position)
        position = np.minimum(position, 2 * (size - 1) - position)
    else:
        position = position[(position >= 0) & (position < size)]
    return np.bincount(position, minlength=size).astype(np.int64)
