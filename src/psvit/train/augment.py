"""Augmentation of whole batches, with torch operations only, but for RandAugment.

B batch, C channels, H height, W width, K classes. Everything random comes from one generator,
which the caller seeds by run, epoch and step: so a resumed run sees the same images.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from psvit.train.config import Augment
from psvit.train.randaugment import rand_augment


def augment(
    images: torch.Tensor,
    how: Augment,
    rng: np.random.Generator,
    fill: torch.Tensor,
    span: torch.Tensor | None = None,
) -> torch.Tensor:
    """Crop, mirror, change at random and erase ``[B, C, H, W]``.

    ``fill [C]`` is black, the colour of what is missing, and ``fill + span [C]`` is white. Frames
    of events ``[B, T, P, H, W]`` move together, and where nothing was, no event was.
    """
    if images.ndim == 5:
        flat = images.flatten(1, 2)
        return augment(flat, how, rng, torch.zeros(flat.shape[1])).reshape(images.shape)
    if how.crop:
        images = random_crop(images, how.crop, rng, fill)
    if how.flip:
        mirrored = torch.from_numpy(rng.random(len(images)) < 0.5).to(images.device)
        images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
    if how.rand and span is not None:
        images = rand_augment(images, how.rand, rng, fill, span)
    if how.erase:
        images = random_erase(images, how.erase, rng, fill)
    return images


def random_crop(
    images: torch.Tensor, padding: int, rng: np.random.Generator, fill: torch.Tensor
) -> torch.Tensor:
    """Shift each image by up to ``padding`` pixels either way, each axis on its own."""
    batch, channels, height, width = images.shape
    shape = (batch, channels, height + 2 * padding, width + 2 * padding)
    padded = fill.to(images)[:, None, None].expand(shape).clone()
    padded[:, :, padding : padding + height, padding : padding + width] = images
    start = torch.from_numpy(rng.integers(0, 2 * padding + 1, (2, batch))).to(images.device)
    rows = start[0, :, None] + torch.arange(height, device=images.device)
    columns = start[1, :, None] + torch.arange(width, device=images.device)
    which = torch.arange(batch, device=images.device)
    # Indices on either side of a slice put the slice last: [B, H, W, C].
    return padded[which[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(
        0, 3, 1, 2
    )


def shrink(images: torch.Tensor, side: int) -> torch.Tensor:
    """``[B, C, H, W]`` with antialiasing to a longer side of ``side`` pixels; never enlarged."""
    height, width = images.shape[-2:]
    scale = side / max(height, width)
    if scale >= 1:
        return images
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return F.interpolate(images, size=size, mode="bilinear", antialias=True)


def random_erase(
    images: torch.Tensor, probability: float, rng: np.random.Generator, fill: torch.Tensor
) -> torch.Tensor:
    """Replace a rectangle of 2 to 25 % of the area, of aspect 1:3 to 3:1, by ``fill``."""
    batch, _, height, width = images.shape
    area = rng.uniform(0.02, 0.25, batch) * height * width
    aspect = np.exp(rng.uniform(-np.log(3), np.log(3), batch))
    tall = np.minimum(np.sqrt(area * aspect), height)
    wide = np.minimum(np.sqrt(area / aspect), width)
    top = rng.uniform(0, 1, batch) * (height - tall)
    left = rng.uniform(0, 1, batch) * (width - wide)
    hit = rng.random(batch) < probability
    y, x = np.arange(height) + 0.5, np.arange(width) + 0.5
    rows = (y >= top[:, None]) & (y < (top + tall)[:, None]) & hit[:, None]
    columns = (x >= left[:, None]) & (x < (left + wide)[:, None])
    mask = torch.from_numpy(rows[:, None, :, None] & columns[:, None, None, :])
    return torch.where(mask.to(images.device), fill.to(images)[:, None, None], images)


def mixup(
    images: torch.Tensor, alpha: float, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Blend each image with another of the batch.

    Returns the images, the partner of each ``[B]``, and the image's own share in [0, 1].
    """
    share = float(rng.beta(alpha, alpha))
    partner = torch.from_numpy(rng.permutation(len(images))).to(images.device)
    return torch.lerp(images[partner], images, share), partner, share


def cutmix(
    images: torch.Tensor, alpha: float, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Cover a rectangle of each image by the same part of another of the batch; as ``mixup``."""
    height, width = images.shape[-2:]
    side = np.sqrt(1 - rng.beta(alpha, alpha))
    middle = rng.random(2) * (height, width)
    reach = np.array([height, width]) * side / 2
    top, left = np.clip(np.round(middle - reach), 0, (height, width)).astype(int)
    bottom, right = np.clip(np.round(middle + reach), 0, (height, width)).astype(int)
    partner = torch.from_numpy(rng.permutation(len(images))).to(images.device)
    mixed = images.clone()
    mixed[..., top:bottom, left:right] = images[partner][..., top:bottom, left:right]
    return mixed, partner, 1 - float((bottom - top) * (right - left)) / (height * width)


def mix(
    images: torch.Tensor, how: Augment, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """``mixup`` or ``cutmix``, as asked; of both, either for half of the batches."""
    if how.cutmix and (not how.mixup or rng.random() < 0.5):
        return cutmix(images, how.cutmix, rng)
    return mixup(images, how.mixup, rng)


def blend_labels(
    labels: torch.Tensor, partner: torch.Tensor, share: float, classes: int
) -> torch.Tensor:
    """The target probabilities ``[B, K]`` of images that ``mix`` has blended."""
    target = F.one_hot(labels, classes).float()
    return torch.lerp(target[partner], target, share)
