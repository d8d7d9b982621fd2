"""Which modules stay whole in the graph, and which are recorded from the inside.

A leaf keeps its original name, parameters, state and train/eval behaviour. It must be a module
whose forward is the library's own: authors subclass layers and put new computation in them.
Everything else is recorded operation by operation, which is exact whatever it does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

LAYERS = (_ConvNd, nn.Linear, _NormBase, nn.LayerNorm, nn.GroupNorm)
"""Layers with a rule of their own in groups/layers.py."""

_RESHAPES = (nn.Flatten, nn.Unflatten, nn.ChannelShuffle, nn.PixelShuffle, nn.PixelUnshuffle)
"""Layers that only move elements: recorded inside, where the rules for views apply."""

_LIBRARIES = ("torch.nn.", "spikingjelly.")


def is_leaf(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a call of ``module`` becomes one node of the graph."""
    tensors = sum(isinstance(a, torch.Tensor) for a in (*args, *kwargs.values()))
    if tensors != 1 or (args and not isinstance(args[0], torch.Tensor)):
        return False
    if not _forward_owner(module).startswith(_LIBRARIES):
        return _is_neuron(module)
    if any(True for _ in module.children()):
        return _is_neuron(module)
    if isinstance(module, LAYERS):
        return _parameters_are_plain(module)
    return not isinstance(module, _RESHAPES)


def _forward_owner(module: nn.Module) -> str:
    """The Python module that defines the forward which a call would run."""
    if "forward" in module.__dict__:
        return str(getattr(module.__dict__["forward"], "__module__", "")) + "."
    return next(c.__module__ for c in type(module).__mro__ if "forward" in c.__dict__) + "."


def _is_neuron(module: nn.Module) -> bool:
    """A neuron of SpikingJelly, or a stateful one that a user derived: reset() manages its state.

    Stateful containers around layers with weights are not neurons: their layers need labels.
    """
    stateful = any(
        base.__name__ == "MemoryModule" and base.__module__.startswith("spikingjelly.")
        for base in type(module).__mro__
    )
    neuron = _forward_owner(module).startswith("spikingjelly.activation_based.neuron.")
    own = {id(p) for p in module.parameters(recurse=False)}
    return (stateful or neuron) and all(id(p) in own or p.numel() == 1 for p in module.parameters())


def _parameters_are_plain(module: nn.Module) -> bool:
    """False where weight or bias is computed (parametrizations, weight norm): record inside."""
    if getattr(module, "parametrizations", None) is not None:
        return False
    return all(name in module._parameters for name in ("weight", "bias") if hasattr(module, name))
