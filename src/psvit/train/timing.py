"""How many time steps a model repeats its images over."""

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
