"""A trained model that guesses: nearly always the data are prepared in another way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from psvit.evaluate.accuracy import accuracy
from psvit.evaluate.wilson import wilson

IMAGES = 256
"""Labelled images that are looked at."""

FEWEST = 32
"""On fewer nothing is said: a good model may miss a few."""


def guessing(
    model: nn.Module, data: Iterable[Any], device: str | torch.device = "cpu"
) -> str | None:
    """A warning if the top-1 of ``model`` is not above chance; None if it is, or without labels.

    ``data`` yields ``(images, labels)`` or images alone. Above chance is a 95 % interval (Wilson)
    that lies above 1 / K on the first images, of K classes.
    """
    batches = _labelled(data)
    n = sum(len(labels) for _, labels in batches)
    if n < FEWEST:
        return None
    found = accuracy(model, batches, device=device)
    low, _ = wilson(found.correct, n)
    if low > 1 / found.classes:
        return None
    return (
        f"the unpruned model gets {found.correct} of {n} training images right, no better than "
        f"guessing among {found.classes} classes: wrong preprocessing is the usual cause, check "
        "the recipe (--recipe, --mean, --std) and the checkpoint"
    )


def _labelled(data: Iterable[Any]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The first batches that have one whole number an image; none if a batch has not."""
    batches: list[tuple[torch.Tensor, torch.Tensor]] = []
    for batch in data:
        if not isinstance(batch, tuple | list) or len(batch) < 2:
            return []
        images, labels = batch[0], batch[1]
        if not isinstance(labels, torch.Tensor) or labels.is_floating_point() or labels.ndim != 1:
            return []
        batches.append((images, labels))
        if sum(len(y) for _, y in batches) >= IMAGES:
            break
    return batches
