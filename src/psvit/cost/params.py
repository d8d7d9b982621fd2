"""Number of parameters: elements that training could change, frozen ones included."""

from __future__ import annotations

from collections.abc import Mapping

from psvit.cost.tensors import Shape, Tensors, numel


def count_params(tensors: Tensors, shapes: Mapping[str, Shape]) -> int:
    """Elements of all parameters of these ``shapes``; a storage shared by several counts once.

    Parameters that the forward never uses count too, before and after alike.
    """
    largest: dict[int, int] = {}
    for name, stored in tensors.stored.items():
        if stored.is_parameter:
            size = numel(shapes[name])
            largest[stored.storage] = max(size, largest.get(stored.storage, 0))
    return sum(largest.values())
