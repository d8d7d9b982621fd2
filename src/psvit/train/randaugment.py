"""RandAugment by kornia, which needs no torchvision.

Two operations out of kornia's list (shear, translate, rotate, colour, contrast, posterize, ...)
are drawn for every few images (Cubuk et al., "RandAugment", 2020, section 3; timm's `rand-m9`
draws them for each). B batch, C channels, H height, W width.
"""

from __future__ import annotations

import numpy as np
import torch

from psvit.errors import DataError, MissingExtra

OPERATIONS = 2
TOGETHER = 8
"""Images that get the same operations: each at its own strength, and a batch has several such."""


def check_randaugment(span: torch.Tensor | None) -> None:
    """Raises MissingExtra without kornia, DataError if it is not known what is white."""
    if span is None:
        raise DataError(
            "RandAugment changes colours between black and white, and your own loader does not say "
            "what those are: leave it out, and augment in the loader"
        )
    try:
        import kornia.augmentation.auto  # noqa: F401
    except ImportError as error:
        raise MissingExtra(
            f"RandAugment needs kornia ({error}): pip install 'psvit[finetune]'"
        ) from error


def rand_augment(
    images: torch.Tensor,
    magnitude: int,
    rng: np.random.Generator,
    fill: torch.Tensor,
    span: torch.Tensor,
) -> torch.Tensor:
    """Two random operations on normalised images ``[B, C, H, W]``, black ``fill``, white
    ``fill + span``."""
    from kornia.augmentation.auto import RandAugment

    low, high = (t.to(images)[:, None, None] for t in (fill, span))
    unit = ((images - low) / high).clamp(0, 1)
    grey = unit.shape[1] == 1
    unit = unit.expand(-1, 3, -1, -1) if grey else unit
    policy = RandAugment(n=OPERATIONS, m=magnitude)
    devices = [images.device] if images.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        torch.manual_seed(int(rng.integers(2**63)))  # kornia draws from the global generator
        changed = torch.cat([policy(part) for part in torch.split(unit, TOGETHER)])
    changed = changed.mean(1, keepdim=True) if grey else changed
    return changed.clamp(0, 1) * high + low
