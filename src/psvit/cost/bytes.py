"""Memory of the weights: bytes of parameters and buffers, in the dtype they have."""

from __future__ import annotations

from collections.abc import Mapping

from psvit.cost.tensors import Shape, Tensors, numel


def count_bytes(tensors: Tensors, shapes: Mapping[str, Shape]) -> int:
    """Bytes of all parameters and buffers of these ``shapes``; a shared storage counts once.

    Buffers include the ones that a state dict leaves out. The largest of the tensors that share
    a storage stands for it.
    """
    largest: dict[int, int] = {}
    for name, stored in tensors.stored.items():
        size = numel(shapes[name]) * stored.itemsize
        largest[stored.storage] = max(size, largest.get(stored.storage, 0))
    return sum(largest.values())
