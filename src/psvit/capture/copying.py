"""A private copy of a model that leaves the original untouched, whatever state it is in."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from psvit.errors import CaptureError
from psvit.neurons import reset_state


def private_copy(model: nn.Module) -> nn.Module:
    """A deep copy with neuron state reset.

    Unlike ``copy.deepcopy`` it accepts tensors that carry a gradient history (membrane
    potentials after a forward) and keeps views of parameters views of the copied parameters.
    Raises CaptureError if some attribute cannot be copied.
    """
    model = unwrapped(model)
    memo: dict[int, Any] = {}
    tensors = list(_tensors(model))
    originals = {id(t): t for t in tensors}
    for tensor in originals.values():
        if tensor.is_leaf and tensor._base is None:
            memo[id(tensor)] = copy.deepcopy(tensor, memo)
    for key, tensor in originals.items():
        base = tensor._base
        if base is not None and id(base) in originals:
            memo[key] = (
                memo[id(base)]
                .detach()
                .as_strided(tensor.size(), tensor.stride(), tensor.storage_offset())
            )
        elif key not in memo:
            memo[key] = tensor.detach().clone()
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


def _tensors(model: nn.Module) -> Iterator[torch.Tensor]:
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
        yield from walk({k: v for k, v in module.__dict__.items() if k != "_modules"})
