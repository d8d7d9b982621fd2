"""What a forward may change of a model for good, noticed and undone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from psvit.neurons import reset_state

EMPTY = (nn.UninitializedParameter, nn.UninitializedBuffer)


def makeup(root: nn.Module) -> list[object]:
    """Parameters, buffers and plain attributes: what a first forward may change for good."""
    tensors = [(n, tuple(t.shape)) for n, t in root.state_dict().items() if _is_plain(t)]
    names = [n for n, _ in tensors if not n.startswith("constant_")]
    return [names, *_plain_attributes(root).values()]


@contextmanager
def restored(root: nn.Module, *, tensors: bool, attributes: bool) -> Iterator[None]:
    """Undo what a forward leaves behind: neuron state and, if asked, statistics and attributes."""
    before = dict(_tensors(root)) if tensors else {}
    before = {name: tensor.detach().clone() for name, tensor in before.items()}
    plain = _plain_attributes(root) if attributes else {}
    reset_state(root)
    try:
        yield
    finally:
        reset_state(root)
        with torch.no_grad():
            for name, tensor in _tensors(root) if tensors else ():
                if name in before:
                    tensor.copy_(before[name])
        for module, values in plain.items():
            module.__dict__.update(values)


def _tensors(root: nn.Module) -> list[tuple[str, torch.Tensor]]:
    every = [*root.named_parameters(), *root.named_buffers()]
    return [(name, tensor) for name, tensor in every if _is_plain(tensor)]


def _plain_attributes(root: nn.Module) -> dict[nn.Module, dict[str, object]]:
    kinds = (bool, int, float)
    return {
        module: {
            k: v for k, v in module.__dict__.items() if isinstance(v, kinds) and k != "training"
        }
        for module in root.modules()
    }


def _is_plain(tensor: Any) -> bool:
    return isinstance(tensor, torch.Tensor) and not isinstance(tensor, EMPTY)
