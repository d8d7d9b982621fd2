"""Evidence about operations without a rule: do they act on each channel alone?

An operation keeps its labels only if slicing before it equals slicing after it, tried on random
and on spike-like data and with several slices. That is evidence, not proof, so operations that
pass are still reported in ``Groups.unknown``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from psvit.neurons import reset_state

Function = Callable[..., Any]


def samples(shape: Sequence[int], dtype: torch.dtype) -> list[torch.Tensor]:
    """Stand-ins for a tensor: random values, and spikes."""
    generator = torch.Generator().manual_seed(0)
    if not dtype.is_floating_point:
        return [torch.randint(0, 2, tuple(shape), generator=generator).to(dtype)]
    return [
        (torch.rand(tuple(shape), generator=generator) * 2.4 - 0.7).to(dtype),
        (torch.rand(tuple(shape), generator=generator) < 0.4).to(dtype),
    ]


def slices_of(size: int) -> list[torch.Tensor]:
    """Index patterns to slice an axis by: every other, the last ones, an irregular choice."""
    index = torch.arange(size)
    patterns = [index[::2], index[size // 3 :], index[(index * index + index) % 3 != 2]]
    return [p for p in patterns if 0 < len(p) < size]


def commutes(function: Function, operands: Sequence[torch.Tensor], axis: int) -> bool:
    """Whether slicing all operands (those that vary) on ``axis`` slices the result alike.

    ``axis`` counts from the end (negative), as broadcasting does.
    """
    try:
        whole = function(*operands)
        for keep in slices_of(whole.shape[axis]):
            cut = [
                x.index_select(axis, keep) if x.ndim >= -axis and x.shape[axis] > 1 else x
                for x in operands
            ]
            if not torch.allclose(
                function(*cut), whole.index_select(axis, keep), rtol=1e-5, atol=1e-6, equal_nan=True
            ):
                return False
    except Exception:  # a failure of any kind shows that the axis cannot be sliced
        return False
    return True


def module_function(module: nn.Module, *, train: bool = False) -> Function:
    """A module as a function: a private copy in one mode, its state forgotten at each call."""
    clone = copy.deepcopy(module).train(train)

    def run(x: torch.Tensor) -> Any:
        reset_state(clone)
        with torch.no_grad():
            return clone(x)

    return run
