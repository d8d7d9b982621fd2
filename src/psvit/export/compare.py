"""Run a file that was written and the model it came from on the same images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from psvit.errors import DataError
from psvit.evaluate.accuracy import logits_of
from psvit.export.records import TOLERANCE, Comparison, Forward
from psvit.neurons import reset_state

MOST = 16
"""Images with other logits that are kept."""


def compare(
    model: nn.Module, forward: Forward, batches: Iterable[Any], n: int
) -> tuple[Comparison, torch.Tensor]:
    """How they compare, and the first images, at most MOST, whose logits differ: ``[*, C, H, W]``.

    ``batches``: images, or ``(images, labels)``; the first ``n`` images are looked at.

    The model runs in eval mode on the CPU, and is left as it was. Raises DataError without images.
    """
    found: list[torch.Tensor] = []
    kept: list[torch.Tensor] = []
    with for_now_in_eval(model):
        for images, labels in first_images(batches, n):
            reset_state(model)
            found.append(_outcome(logits_of(model, images), forward(images), labels))
            kept.append(images[~(found[-1][:, 1] <= TOLERANCE)])  # NaN differs
    if not found:
        raise DataError("the data has no images: nothing to compare the export on")
    same, gaps, labelled, model_right, file_right = torch.cat(found).unbind(1)
    differs = ~(gaps <= TOLERANCE)
    comparison = Comparison(
        n=len(gaps),
        same_top1=int(same.sum()),
        differing=int(differs.sum()),
        largest=float(gaps[~differs].max()) if bool((~differs).any()) else 0.0,
        largest_differing=float(gaps[differs].max()) if bool(differs.any()) else 0.0,
        labelled=int(labelled.sum()),
        correct_model=int(model_right.sum()),
        correct_file=int(file_right.sum()),
    )
    return comparison, torch.cat(kept)[:MOST]


@contextmanager
def for_now_in_eval(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; afterwards its modes as they were, its neurons at rest."""
    modes = {module: module.training for module in model.modules()}
    try:
        with torch.no_grad():
            model.eval()
            yield
    finally:
        reset_state(model)
        for module, mode in modes.items():
            module.training = mode


def first_images(
    batches: Iterable[Any], n: int
) -> Iterable[tuple[torch.Tensor, torch.Tensor | None]]:
    """The first ``n`` images of batches that may have labels."""
    left = n
    for batch in batches:
        if left <= 0:
            return
        images, labels = batch if isinstance(batch, tuple | list) else (batch, None)
        yield images[:left], None if labels is None else labels[:left]
        left -= len(images)


def _outcome(own: torch.Tensor, other: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
    """``[B, 5]`` float64: same guess, largest gap, labelled, model right, file right."""
    if own.shape != other.shape:
        raise DataError(
            f"the file gives outputs of shape {list(other.shape)}, the model {list(own.shape)}"
        )
    guess, guessed = own.argmax(1), other.argmax(1)
    gaps = (own.double() - other.double()).abs().amax(1)
    wrong = torch.full_like(guess, -1) if labels is None else labels.long()
    known = torch.full_like(gaps, float(labels is not None))
    right = [(g == wrong).double() for g in (guess, guessed)]
    return torch.stack([(guess == guessed).double(), gaps, known, *right], 1)
