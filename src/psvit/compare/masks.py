"""Unstructured magnitude pruning: the smallest weights of the whole model become zero.

The oldest rival (Han et al., "Learning both Weights and Connections", NeurIPS 2015, section 3;
one global threshold as in Blalock et al., "What is the State of Neural Network Pruning?", MLSys
2020). Masks leave every tensor as large as it was: memory is saved only by a sparse format, time
only by a kernel that skips zeros.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from psvit.capture.copying import private_copy
from psvit.errors import BudgetError


def mask_smallest(model: nn.Module, share: float) -> tuple[nn.Module, int]:
    """A copy of the model with ``ceil(share * parameters)`` weights set to zero; and that number.

    Those of the smallest magnitude of all weights with two axes or more go; biases and norms,
    which count as parameters, stay. Weights of equal magnitude go in the order of the model.
    Raises BudgetError if there are not so many.
    """
    masked = private_copy(model)
    parameters = list(masked.parameters())
    weights = [p for p in parameters if p.ndim > 1]
    count = math.ceil(share * sum(p.numel() for p in parameters) - 1e-9)
    able = sum(w.numel() for w in weights)
    if count > able:
        raise BudgetError(
            f"cannot set {count:,} weights to zero: the model has {able:,} that masks can take; "
            "ask for less"
        )
    sizes = torch.cat([w.detach().abs().flatten().cpu() for w in weights])
    gone = torch.zeros(len(sizes), dtype=torch.bool)
    gone[torch.sort(sizes, stable=True).indices[:count]] = True
    masks = torch.split(gone, [w.numel() for w in weights])
    with torch.no_grad():
        for weight, mask in zip(weights, masks, strict=True):
            weight[mask.view(weight.shape).to(weight.device)] = 0
    return masked, count
