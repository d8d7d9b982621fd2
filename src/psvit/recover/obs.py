"""Covariance compensation of a cut model: closed-form, label-free, without new parameters.

See ``psvit.calibrate.compensate`` for the equations and docs/recovery.md for what they gain.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from psvit.calibrate import calibrate
from psvit.recover.origin import Origin


def compensated(model: nn.Module, images: Sequence[torch.Tensor], origin: Origin | None) -> int:
    """Refit every weight of ``model`` that lost inputs to the dense model's outputs, in place.

    ``images`` are looked at only if ``origin`` does not hold the moments of its dense model.
    Without an origin nothing was lost, and nothing changes: the control of a comparison is the
    dense model itself. Returns the number of images that the moments are from. Raises as
    ``psvit.calibrate.collect`` does.
    """
    if origin is None:
        return 0
    dense = origin.dense or calibrate(
        origin.graph, origin.groups, images, seed=origin.seed, device=origin.device
    )
    origin.put(model, dense.values(origin.removal))
    return dense.moments.images
