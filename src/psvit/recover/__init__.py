"""Bring back accuracy after pruning, without labels and without gradients.

    recover(model, images, method, origin)      in place; returns the model

A method is an entry of ``RECOVERIES``; ``origin`` says what the model was cut from. Compare with
the dense model after the same recovery (which has no origin): bn changes it too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from psvit.errors import OptionError
from psvit.recover.auto import auto
from psvit.recover.bn import norms_of as norms_of
from psvit.recover.bn import reestimate as reestimate
from psvit.recover.lsq import refitted
from psvit.recover.obs import compensated
from psvit.recover.origin import Origin as Origin
from psvit.recover.origin import cut as cut
from psvit.recover.record import Record as Record

IMAGES = 1024
"""Training images that a recovery looks at."""

TRAINED = "finetune"
"""The recovery that is none of ``RECOVERIES``: ``UNTRAINED``, and then gradients, by
``psvit.finetune``."""

UNTRAINED = "auto"

COMPENSATED = frozenset({"obs", "lsq", "auto", TRAINED})
"""Recoveries that refit weights: a sensitivity analysis for them measures compensated models."""

MATCHED = frozenset({"auto", TRAINED})
"""Recoveries that match statistics: plans are measured with matched ones."""

Recovery = Callable[[nn.Module, Sequence[torch.Tensor], Origin | None], Record]
"""Changes a model in place, given batches of images and what it was cut from (None: it is dense).

Returns how many images it has used, and what else there is to say."""

RECOVERIES: Mapping[str, Recovery] = {
    "none": lambda model, images, origin: Record(0),
    "bn": lambda model, images, origin: Record(reestimate(model, images)),
    "obs": lambda model, images, origin: Record(compensated(model, images, origin)),
    "lsq": refitted,
    "auto": auto,
}


def recover(
    model: nn.Module,
    images: Iterable[torch.Tensor],
    method: str = "bn",
    origin: Origin | None = None,
) -> nn.Module:
    """Recover accuracy of ``model`` on training ``images`` (batches of inputs), in place.

    ``method``: a key of ``RECOVERIES``. ``origin``: the dense model and the plan that the model
    was cut by; None for a dense model, a control. Raises OptionError for another method, and what
    the method raises: see its file in ``psvit.recover``.
    """
    recover_recorded(model, images, method, origin)
    return model


def recover_recorded(
    model: nn.Module, images: Iterable[torch.Tensor], method: str, origin: Origin | None
) -> Record:
    """As ``recover``; returns what was done."""
    check_recovery(method, images)
    if method == TRAINED:
        raise OptionError("recovery 'finetune' trains the model: call psvit.finetune")
    return RECOVERIES[method](model, list(images), origin)


def default_saliency(recover: str) -> str:
    """The ranking that goes with a recovery, if no other is named: obs chooses for refitting."""
    return "obs" if recover in COMPENSATED else "l1"


def check_recovery(method: str, data: Iterable[Any] | None) -> None:
    """Raises OptionError for a recovery that psvit does not have, or that lacks images."""
    if method not in (*RECOVERIES, TRAINED):
        raise OptionError(
            f"no recovery is called {method!r}, expected one of {', '.join(RECOVERIES)}, {TRAINED}"
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
