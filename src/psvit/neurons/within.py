"""A model's own neurons, computed in one pass for as long as a block of code runs.

Spikes and potentials are those of the neurons themselves, bit for bit, so that nothing shows but
the time: accuracy and calibration run a model as its owner wrote it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from psvit.neurons.dynamics import dynamics_inside
from psvit.neurons.kernel import kernel, steps_in_c


@contextmanager
def one_pass(model: nn.Module) -> Iterator[None]:
    """Inside, plain IF and LIF neurons of ``model`` on a CPU do all T steps in one pass.

    Only where ``psvit.neurons.kernel`` could be compiled, in float32, and without gradients;
    otherwise, and for any other neuron, the model's own code runs. Afterwards nothing is left.
    """
    changed: list[nn.Module] = []
    try:
        for module in model.modules() if kernel() is not None else ():
            if "forward" not in vars(module) and dynamics_inside(module) is not None:
                module.forward = MethodType(_forward, module)
                changed.append(module)
        yield
    finally:
        for module in changed:
            del module.forward


def _forward(self: Any, *args: Any, **kwargs: Any) -> Any:
    plain = len(args) == 1 and not kwargs and type(args[0]) is Tensor  # no stand-in for one
    spikes = _in_one_pass(self, args[0]) if plain else None
    return type(self).forward(self, *args, **kwargs) if spikes is None else spikes


def _in_one_pass(node: Any, x: Tensor) -> Tensor | None:
    """Spikes, the neuron keeping its potentials; None where its own code has to run."""
    dynamics = dynamics_inside(node)
    if dynamics is None or torch.compiler.is_compiling() or x.ndim < 2 or not len(x):
        return None
    v = node.v
    held = v if isinstance(v, Tensor) else None
    if held is None and v != dynamics.rest:
        return None
    if torch.is_grad_enabled() and (x.requires_grad or (held is not None and held.requires_grad)):
        return None
    after = torch.empty_like(x[0])
    spikes = steps_in_c(x.detach(), dynamics, before=held, after=after)
    if spikes is not None:
        node.v = after
    return spikes
