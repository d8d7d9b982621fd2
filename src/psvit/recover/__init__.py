"""Bring back accuracy after pruning, without labels and without gradients.

    recover(model, images, method)      in place; returns the model

A method is an entry of ``RECOVERIES``. Compare with the dense model after the same recovery:
statistics that were stale before pruning gain from it too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from psvit.errors import OptionError
from psvit.recover.bn import reestimate

IMAGES = 1024
"""Training images that a recovery looks at."""

Recovery = Callable[[nn.Module, Iterable[torch.Tensor]], int]

RECOVERIES: Mapping[str, Recovery] = {"none": lambda model, images: 0, "bn": reestimate}


def recover(model: nn.Module, images: Iterable[torch.Tensor], method: str = "bn") -> nn.Module:
    """Recover accuracy of ``model`` on training ``images`` (batches of inputs), in place.

    ``method``: a key of ``RECOVERIES``. Raises OptionError for another, and what the method
    raises: see ``psvit.recover.bn``.
    """
    check_recovery(method, images)
    RECOVERIES[method](model, images)
    return model


def check_recovery(method: str, data: Iterable[Any] | None) -> None:
    """Raises OptionError for a recovery that psvit does not have, or that lacks images."""
    if method not in RECOVERIES:
        raise OptionError(
            f"no recovery is called {method!r}, expected one of {', '.join(RECOVERIES)}"
        )
    if method != "none" and data is None:
        raise OptionError(
            f"recovery {method!r} runs the model on training images: give them (data=, --data DATA)"
        )


def calibration_images(data: Iterable[Any], most: int = IMAGES) -> list[torch.Tensor]:
    """The inputs of the first batches of ``data``, up to ``most`` images in whole batches.

    ``data`` yields ``(images, labels)`` or images alone. A last batch smaller than the others is
    left out, because every batch weighs the same.
    """
    batches: list[torch.Tensor] = []
    for batch in data:
        images = batch[0] if isinstance(batch, tuple | list) else batch
        if batches and len(images) != len(batches[0]):
            break
        batches.append(images)
        if sum(len(b) for b in batches) >= most:
            break
    return batches
