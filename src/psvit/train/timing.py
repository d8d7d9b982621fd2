"""How many time steps a model repeats its images over, and how fast its neurons forget."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from psvit.errors import ModelError


@contextmanager
def time_steps(model: nn.Module, steps: int) -> Iterator[None]:
    """Within the block, repeat images over ``steps`` time steps; 0: as many as the model does."""
    own = getattr(model, "T", None)
    if steps and not isinstance(own, int):
        raise ModelError(
            "early_T changes the attribute T of the model, which has none: train it without early_T"
        )
    module: Any = model
    try:
        if steps:
            module.T = steps
        yield
    finally:
        if steps:
            module.T = own


@contextmanager
def time_constant(model: nn.Module, tau: float) -> Iterator[None]:
    """Within the block, the leaky neurons have this membrane time constant; 0: their own.

    From rest, a leaky neuron reaches ``x (1 - (1 - 1/tau)^T)`` in T steps of the input x. In one
    step with tau = 2 it fires only at twice the threshold, in four at 1.07 times: tau = 1.4 makes
    one step fire about as often as four do on average.
    """
    leaky = (
        [m for m in model.modules() if isinstance(getattr(m, "tau", None), float)] if tau else []
    )
    own = [module.tau for module in leaky]
    try:
        for module in leaky:
            module.tau = tau  # type: ignore[assignment]
        yield
    finally:
        for module, value in zip(leaky, own, strict=True):
            module.tau = value
