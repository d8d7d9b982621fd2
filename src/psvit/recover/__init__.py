"""Bring back accuracy after pruning, without labels and without gradients.

    recover(model, images, method)      in place; returns the model

A method is an entry of ``RECOVERIES``. Compare with the dense model after the same recovery:
statistics that were stale before pruning gain from it too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import nn

from psvit.errors import OptionError
from psvit.recover.bn import reestimate

Recovery = Callable[[nn.Module, Iterable[torch.Tensor]], int]

RECOVERIES: Mapping[str, Recovery] = {"none": lambda model, images: 0, "bn": reestimate}


def recover(model: nn.Module, images: Iterable[torch.Tensor], method: str = "bn") -> nn.Module:
    """Recover accuracy of ``model`` on training ``images`` (batches of inputs), in place.

    ``method``: a key of ``RECOVERIES``. Raises OptionError for another, and what the method
    raises: see ``psvit.recover.bn``.
    """
    check_recovery(method)
    RECOVERIES[method](model, images)
    return model


def check_recovery(method: str) -> None:
    """Raises OptionError for a recovery that psvit does not have."""
    if method not in RECOVERIES:
        raise OptionError(
            f"no recovery is called {method!r}, expected one of {', '.join(RECOVERIES)}"
        )
