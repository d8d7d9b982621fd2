"""Arithmetic on fields: what views, slices and reshapes do to the lanes of a tensor.

The law that all of it keeps: the elements of a pruned tensor are the kept elements of the
original, in the same row-major order. So any reshape is exact, and only an operation that
looks at axes needs the kept elements to form a rectangle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from psvit.groups.rest import Rest
from psvit.records import Field, IntArray

Shape = tuple[int, ...]


def axis_field(
    lanes: IntArray, axis: int, ndim: int, *, rest: Rest = 0.0, block: bool = False
) -> Field:
    """A field that varies on one axis of a tensor of rank ``ndim``."""
    shape = [1] * ndim
    shape[axis] = len(lanes)
    return Field(lanes.reshape(shape), axis, rest, block)


def is_scrambled(field: Field) -> bool:
    """Whether a view folded labelled and unlabelled axes into one another.

    Such a tensor is exact element by element but has no channel axis to speak of: a lane lies
    at different positions of the thinned axis.
    """
    flat = field.lanes.ravel()
    if len(field.varying) < 2 or bool((flat[1:] > flat[:-1]).all()):  # all distinct, at a glance
        return False
    position = np.arange(field.lanes.shape[field.along])
    places = axis_field(position, field.along, field.lanes.ndim).lanes
    pairs = field.lanes * len(position) + places
    return len(np.unique(pairs)) > len(np.unique(field.lanes))


def moved(field: Field, shape: Shape, function: Callable[[torch.Tensor], Any]) -> Any:
    """The field of ``function(tensor)``, for a function that only moves elements.

    A function that returns several tensors gives a list of ``Field | None``; None: no lane varies.
    """
    position = np.arange(field.lanes.shape[field.along], dtype=np.int64)
    axis = axis_field(position, field.along, field.lanes.ndim).lanes
    lanes = function(torch.from_numpy(np.ascontiguousarray(field.lanes)).expand(shape))
    along = function(torch.from_numpy(axis).expand(shape))
    if isinstance(lanes, (tuple, list)):
        return [_rebuilt(field, a, b) for a, b in zip(lanes, along, strict=True)]
    return _rebuilt(field, lanes, along)


def _rebuilt(field: Field, lanes: torch.Tensor, position: torch.Tensor) -> Field | None:
    small = shrunk(lanes)
    varying = [d for d, s in enumerate(small.shape) if s > 1]
    if not varying:
        return None
    along = [d for d, s in enumerate(shrunk(position).shape) if s > 1 and d in varying]
    return replace(field, lanes=small, along=(along or varying)[-1])


def shrunk(lanes: torch.Tensor) -> IntArray:
    """The lanes with size 1 on each axis that they do not vary on."""
    for d in range(lanes.ndim):
        if lanes.shape[d] > 1 and lanes.stride(d) == 0:
            lanes = lanes.narrow(d, 0, 1)
    for d in range(lanes.ndim):
        if lanes.shape[d] > 1 and bool((lanes == lanes.narrow(d, 0, 1)).all()):
            lanes = lanes.narrow(d, 0, 1)
    array: IntArray = np.ascontiguousarray(lanes.numpy())
    return array


def reshape_blocks(old: Shape, new: Shape) -> list[tuple[range, range]]:
    """Split a reshape into independent ones: runs of axes with equal products."""
    blocks, i, j = [], 0, 0
    while i < len(old) or j < len(new):
        start_i, start_j, left, right = i, j, 1, 1
        if i < len(old):
            left, i = old[i], i + 1
        if j < len(new):
            right, j = new[j], j + 1
        while left != right:
            if left < right:
                left, i = left * old[i], i + 1
            else:
                right, j = right * new[j], j + 1
        while i < len(old) and old[i] == 1 and (j >= len(new) or new[j] != 1):
            i += 1
        while j < len(new) and new[j] == 1 and (i >= len(old) or old[i] != 1):
            j += 1
        blocks.append((range(start_i, i), range(start_j, j)))
    return blocks


def reshaped(field: Field, old: Shape, new: Shape) -> Field | None:
    """The field after ``reshape(new)`` of a tensor of shape ``old``."""
    full_old, full_new = list(field.lanes.shape), [1] * len(new)
    for axes, targets in reshape_blocks(old, new):
        if any(d in field.varying for d in axes):
            for d in axes:
                full_old[d] = old[d]
            for d in targets:
                full_new[d] = new[d]
    new_field: Field | None = moved(field, tuple(full_old), lambda t: t.reshape(full_new))
    return new_field


def merges_out_of_order(field: Field, old: Shape, new: Shape) -> bool:
    """Whether a reshape merges the thinned axis with a labelled axis that varies faster.

    Then the kept elements are in row-major order only if every slice keeps the same ones.
    """
    for axes, _ in reshape_blocks(old, new):
        varying = [d for d in axes if d in field.varying]
        folded = sum(old[d] > 1 for d in axes) > 1
        if folded and field.along in varying and varying[-1] != field.along:
            return True
    return False


def lifted(field: Field, shape: Shape, rank: int) -> tuple[Field, Shape]:
    """A field and its tensor's shape, with leading axes of size 1 up to ``rank`` (broadcasting)."""
    pad = rank - len(shape)
    lanes = field.lanes.reshape((1,) * pad + field.lanes.shape)
    return replace(field, lanes=lanes, along=field.along + pad), (1,) * pad + shape


def without_axes(field: Field, axes: Sequence[int]) -> Field:
    """The field of a tensor whose ``axes``, on which it does not vary, are squeezed away."""
    keep = [d for d in range(field.lanes.ndim) if d not in axes]
    lanes = field.lanes.reshape([field.lanes.shape[d] for d in keep])
    return replace(field, lanes=lanes, along=keep.index(field.along))


def rows_of(field: Field) -> IntArray:
    """Lanes as a matrix: one row for each slice, the thinned axis along the columns."""
    lanes = np.moveaxis(field.lanes, field.along, -1)
    return lanes.reshape(-1, lanes.shape[-1])
