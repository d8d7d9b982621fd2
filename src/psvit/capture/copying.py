"""A private copy of a model that leaves the original untouched, whatever state it is in."""

from __future__ import annotations

import copy
from collections.abc import Container, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from psvit.capture.settling import EMPTY
from psvit.errors import CaptureError
from psvit.neurons import reset_state


def private_copy(model: nn.Module, but: Container[str] = ()) -> nn.Module:
    """A deep copy with neuron state reset.

    ``but``: names of parameters and buffers that are not copied but shared, because they will be
    replaced. Unlike ``copy.deepcopy`` it accepts tensors that carry a gradient history (membrane
    potentials after a forward) and keeps views of parameters views of the copied parameters.
    Raises CaptureError if some attribute cannot be copied.
    """
    model = unwrapped(model)
    memo: dict[int, Any] = {
        id(tensor): tensor
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]
        if name in but
    }
    homes: dict[int, torch.Tensor] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_leaf and not isinstance(tensor, EMPTY) and tensor.numel():
            copy.deepcopy(tensor, memo)
            homes.setdefault(tensor.untyped_storage().data_ptr(), tensor)
    for tensor in held_tensors(model):
        if id(tensor) not in memo and not isinstance(tensor, EMPTY) and tensor.numel():
            home = homes.get(tensor.untyped_storage().data_ptr())
            view = None if home is None else _same_view(tensor, home, memo[id(home)])
            if view is not None:
                memo[id(tensor)] = view
    try:
        with _copyable_results():
            clone = copy.deepcopy(model, memo)
    except Exception as error:
        raise CaptureError(
            f"{type(model).__name__} cannot be copied ({type(error).__name__}: {error}): "
            "psvit works on a copy, so every attribute must be copyable"
        ) from error
    reset_state(clone)
    return clone


def _same_view(tensor: torch.Tensor, home: torch.Tensor, copied: torch.Tensor) -> Any:
    """The part of ``copied`` that ``tensor`` is of ``home``; None if it reaches beyond it."""
    offset = int(tensor.storage_offset() - home.storage_offset())
    reach = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    if offset < 0 or offset + reach >= home.numel() or copied.stride() != home.stride():
        return None
    return copied.detach().as_strided(tensor.size(), tensor.stride(), offset)


@contextmanager
def _copyable_results() -> Iterator[None]:
    """Let tensors with a gradient history, wherever an object holds one, be copied by value."""
    original: Any = torch.Tensor.__deepcopy__

    def by_value(tensor: torch.Tensor, memo: dict[int, Any]) -> Any:
        if tensor.is_leaf:
            return original(tensor, memo)
        return memo.setdefault(id(tensor), tensor.detach().clone())

    torch.Tensor.__deepcopy__ = by_value  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.Tensor.__deepcopy__ = original  # type: ignore[method-assign]


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside torch.compile, DataParallel or DistributedDataParallel."""
    while True:
        inner = model._modules.get("_orig_mod")
        if inner is None and isinstance(
            model, (nn.DataParallel, nn.parallel.DistributedDataParallel)
        ):
            inner = model.module
        if inner is None:
            return model
        model = inner


def held_tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    """Every tensor that is an attribute of a submodule, also inside lists, tuples and dicts."""
    seen: set[int] = set()

    def walk(value: Any) -> Iterator[torch.Tensor]:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (dict, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            for item in value.values() if isinstance(value, dict) else value:
                yield from walk(item)

    for module in model.modules():
        for key, value in module.__dict__.items():
            if key != "_modules":
                yield from walk(value)
