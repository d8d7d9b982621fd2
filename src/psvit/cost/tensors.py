"""The shapes of a model's parameters and buffers after a removal, from the slots alone.

A tensor may have several names (a shared layer) and several tensors may share a storage (a
view kept as a buffer): the names are united here, the storages counted once by the callers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import torch

from psvit.errors import PlanError
from psvit.records import Dim, Graph, Group, Groups, IntArray, Removal

Shape = tuple[int, ...]
Removed = Mapping[int, IntArray]
"""Group id -> the channels that go, ascending and without repetition."""


@dataclass(frozen=True, eq=False)
class Stored:
    """One parameter or buffer. ``storage``: equal for tensors that share their memory."""

    name: str
    shape: Shape
    itemsize: int
    storage: int
    is_parameter: bool


@dataclass(frozen=True, eq=False)
class Tensors:
    """Every parameter and buffer once, by its first name, and what removing channels does to it.

    ``first_name`` maps every name of a tensor to the one it is listed under.
    ``slots[group id]`` are (tensor, dim, index ``[C, J]``), each axis once. ``conv_groups`` of
    a convolution weight with an "in" slot: over how many groups its inputs are spread.
    """

    stored: Mapping[str, Stored]
    first_name: Mapping[str, str]
    slots: Mapping[int, tuple[tuple[str, Dim, IntArray], ...]]
    conv_groups: Mapping[str, int]

    def shapes(self, removed: Removed) -> dict[str, Shape]:
        """The shape that each tensor has left, by first name."""
        lost: dict[tuple[str, int], int] = defaultdict(int)
        lost_inputs: dict[str, list[IntArray]] = defaultdict(list)
        for group, channels in removed.items():
            for name, dim, index in self.slots[group]:
                if dim == "in":
                    lost_inputs[name].append(index[channels].ravel())
                else:
                    lost[name, dim] += len(channels) * index.shape[1]
        shapes = {name: list(stored.shape) for name, stored in self.stored.items()}
        for (name, axis), count in lost.items():
            shapes[name][axis] -= count
        for name, positions in lost_inputs.items():
            shapes[name][1] = self._inputs_per_group(name, np.concatenate(positions))
        return {name: tuple(shape) for name, shape in shapes.items()}

    def _inputs_per_group(self, name: str, lost: IntArray) -> int:
        """Inputs that a group of a grouped convolution keeps; a group that lost all is gone."""
        kept = np.ones((self.conv_groups[name], self.stored[name].shape[1]), dtype=bool)
        kept.ravel()[lost] = False
        return int(kept.sum(axis=1).max())


def list_tensors(graph: Graph, groups: Iterable[Group]) -> Tensors:
    """Read the parameters and buffers of ``graph.module`` and the slots of every group."""
    stored: dict[str, Stored] = {}
    first_name: dict[str, str] = {}
    seen: dict[int, str] = {}
    module = graph.module
    for is_parameter, named in (
        (True, module.named_parameters(remove_duplicate=False)),
        (False, module.named_buffers(remove_duplicate=False)),
    ):
        for name, tensor in named:
            first = first_name[name] = seen.setdefault(id(tensor), name)
            if first == name:
                stored[name] = Stored(
                    name, tuple(tensor.shape), tensor.element_size(), _storage(tensor), is_parameter
                )
    slots = {group.id: _slots(group, first_name, stored) for group in groups}
    return Tensors(stored, first_name, slots, _conv_groups(slots, stored))


def _slots(
    group: Group, first_name: Mapping[str, str], stored: Mapping[str, Stored]
) -> tuple[tuple[str, Dim, IntArray], ...]:
    """The group's slots under first names; an axis that two names speak of is listed once."""
    unique: dict[tuple[str, Dim], IntArray] = {}
    for slot in group.slots:
        name = first_name.get(slot.tensor)
        if name is None:
            raise PlanError(
                f"group {group.name} has a slot on {slot.tensor}, which is no parameter or buffer "
                "of this model: find the groups again on this graph"
            )
        dim = slot.dim if slot.dim == "in" else slot.dim % len(stored[name].shape)
        unique.setdefault((name, dim), slot.index)
    return tuple((name, dim, index) for (name, dim), index in unique.items())


def _conv_groups(
    slots: Mapping[int, tuple[tuple[str, Dim, IntArray], ...]], stored: Mapping[str, Stored]
) -> dict[str, int]:
    """The number of the last convolution group that an "in" slot reaches, counted from 1."""
    counts: dict[str, int] = {}
    for entries in slots.values():
        for name, dim, index in entries:
            if dim == "in" and index.size:
                last = int(index.max()) // stored[name].shape[1]
                counts[name] = max(counts.get(name, 1), last + 1)
    return counts


def _storage(tensor: torch.Tensor) -> int:
    """A number that tensors sharing their memory share (the address is 0 on "meta")."""
    return int(tensor.untyped_storage()._cdata)


def check_removal(groups: Groups, removal: Removal) -> dict[int, IntArray]:
    """The removal with sorted unique channels. Raises PlanError for what is not in the groups."""
    by_id = {group.id: group for group in groups}
    checked: dict[int, IntArray] = {}
    for group_id, channels in removal.items():
        if group_id not in by_id:
            raise PlanError(
                f"a removal names group {group_id}, expected one of the {len(by_id)} groups found"
            )
        group, unique = by_id[group_id], np.unique(np.asarray(channels, dtype=np.int64))
        if unique.size and not 0 <= unique[0] <= unique[-1] < group.size:
            raise PlanError(
                f"a removal names channels {unique[0]}..{unique[-1]} of group {group.name}, "
                f"which has channels 0..{group.size - 1}"
            )
        if unique.size:
            checked[group_id] = unique
    return checked


def numel(shape: Shape) -> int:
    """Number of elements, 1 for a scalar."""
    return prod(shape)
