"""Prune without cutting: zero the slices of the removed channels, in place, for a while.

A model whose removed slices are zeroed computes exactly what the smaller model computes (that
is what ``psvit.rewrite`` promises), so a point is measured on the model as it is. Running
variances and learned divisors stay, as in ``psvit.rewrite.zeroed``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from psvit.records import Labels, Plan


@dataclass(frozen=True, eq=False)
class Edit:
    """A tensor, and the slices of it that go: index tuples for ``tensor[index] = 0``."""

    tensor: torch.Tensor
    slices: tuple[tuple[slice | torch.Tensor, ...], ...]


def edits_of(root: nn.Module, labels: Labels, plan: Plan) -> tuple[Edit, ...]:
    """What a plan zeroes in ``root``, a module tree that it was made for."""
    tensors = dict(root.named_parameters()) | dict(root.named_buffers())
    edits = []
    for name, dims in plan.keep.items():
        if name in labels.aliases or name.endswith("running_var") or name in labels.divisors:
            continue
        slices: list[tuple[slice | torch.Tensor, ...]] = []
        for dim, kept in dims.items():
            if dim == "in":
                width = len(labels.slots[name, "in"])
                slices += _inputs(root, name, tensors[name], width, kept)
            else:
                axis = int(dim) % tensors[name].ndim
                gone = _gone(tensors[name].shape[axis], kept).to(tensors[name].device)
                slices.append((*[slice(None)] * axis, gone))
        edits.append(Edit(tensors[name].data, tuple(slices)))
    return tuple(edits)


@contextmanager
def zeroed(edits: Sequence[Edit]) -> Iterator[None]:
    """The slices are 0 inside the block, and bit for bit what they were after it."""
    before = [edit.tensor.clone() for edit in edits]
    try:
        for edit in edits:
            for index in edit.slices:
                edit.tensor[index] = 0
        yield
    finally:
        for edit, data in zip(edits, before, strict=True):
            edit.tensor.copy_(data)


@contextmanager
def replaced(root: nn.Module, values: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Tensors of ``root`` have other ``values`` inside the block, and their own after it."""
    tensors = dict(root.named_parameters()) | dict(root.named_buffers())
    before = {name: tensors[name].detach().clone() for name in values}
    try:
        for name, value in values.items():
            tensors[name].data.copy_(value)
        yield
    finally:
        for name, value in before.items():
            tensors[name].data.copy_(value)


def _gone(size: int, kept: Sequence[int]) -> torch.Tensor:
    mask = torch.ones(size, dtype=torch.bool)
    mask[list(kept)] = False
    return mask.nonzero().flatten()


def _inputs(
    root: nn.Module, name: str, weight: torch.Tensor, width: int, kept: Sequence[int]
) -> list[tuple[slice | torch.Tensor, ...]]:
    """Inputs of a grouped convolution, counted over the whole layer."""
    groups = int(root.get_submodule(name.rpartition(".")[0]).groups)  # type: ignore[arg-type]
    per_group, size = width // groups, weight.shape[0] // groups
    slices: list[tuple[slice | torch.Tensor, ...]] = []
    for index in _gone(width, kept).tolist():
        group, position = divmod(index, per_group)
        rows = slice(group * size, (group + 1) * size)
        slices.append((rows, torch.tensor([position], device=weight.device)))
    return slices
