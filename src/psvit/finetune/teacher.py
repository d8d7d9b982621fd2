"""The teacher: a frozen copy of the dense model, as it is.

Its batch-norm statistics are not taken again: they are of a whole training set, augmented as its
weights are used to (see ``psvit.recover.matching``).
"""

from __future__ import annotations

import torch
from torch import nn

from psvit.capture.copying import private_copy
from psvit.errors import ModelError
from psvit.evaluate.accuracy import logits_of
from psvit.neurons import reset_state


def prepare_teacher(dense: nn.Module, device: torch.device) -> nn.Module:
    """A frozen copy of ``dense`` in eval mode on ``device``; ``dense`` is left alone."""
    return private_copy(dense).to(device).eval().requires_grad_(False)


def check_classes_alike(small: nn.Module, teacher: nn.Module, images: torch.Tensor) -> int:
    """How many classes both know. Raises ModelError if that differs."""
    counts = [_classes(model, images) for model in (small, teacher)]
    if counts[0] != counts[1]:
        raise ModelError(
            f"the teacher knows {counts[1]} classes, the pruned model {counts[0]}: give the dense "
            "model that it was pruned from"
        )
    return counts[0]


def _classes(model: nn.Module, images: torch.Tensor) -> int:
    modes = {module: module.training for module in model.modules()}
    place = next((t.device for t in model.parameters()), torch.device("cpu"))
    try:
        reset_state(model)
        with torch.no_grad():
            return logits_of(model.eval(), images.to(place)).shape[1]
    finally:
        reset_state(model)
        for module, mode in modes.items():
            module.training = mode
