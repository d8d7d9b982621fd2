"""Batch-norm statistics measured afresh: the running ones lag behind weights that still move."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from psvit.neurons import reset_state
from psvit.train.batches import Batch


def remeasure_bn(model: nn.Module, batches: Iterable[Batch]) -> None:
    """Replace every running mean and variance by the average over ``batches``, in place."""
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    momenta = [m.momentum for m in norms]
    modes = {m: m.training for m in model.modules()}
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # torch's way to say: the plain average of all batches
        model.eval()
        for norm in norms:
            norm.train()
        with torch.no_grad():
            for images, _ in batches:
                reset_state(model)
                model(images)
    finally:
        reset_state(model)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, mode in modes.items():
            module.training = mode
