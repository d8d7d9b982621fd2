"""The teacher: a copy of the dense model, its batch-norm statistics taken afresh.

Statistics that lag behind the weights cost the dense model accuracy too, and a student learns what
its teacher says. So the teacher is, as the control of every recovery, the dense model after
re-estimation (`psvit.recover.bn`).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from psvit.capture.copying import private_copy
from psvit.errors import ModelError
from psvit.evaluate.accuracy import logits_of
from psvit.neurons import reset_state
from psvit.recover import recover


def prepare_teacher(
    dense: nn.Module, images: Iterable[torch.Tensor], device: torch.device
) -> nn.Module:
    """A frozen copy of ``dense`` in eval mode on ``device``; ``dense`` is left alone.

    ``images``: batches ``[B, C, H, W]`` of training images, each as large as the others.
    """
    teacher = private_copy(dense).to(device)
    if any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in teacher.modules()):
        recover(teacher, [batch.to(device) for batch in images], "bn")
    return teacher.eval().requires_grad_(False)


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
