"""Training images, as a run augments them or as they are, to take batch-norm statistics of."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch

from psvit.train.augment import augment
from psvit.train.batches import TrainingData
from psvit.train.config import TrainConfig
from psvit.train.randaugment import check_randaugment


def like_trained_on(
    data: TrainingData, config: TrainConfig, device: torch.device
) -> Iterator[torch.Tensor]:
    """``config.bn_batches`` batches ``[B, C, H, W]`` of an epoch that training never reaches.

    Augmented as in training, but not mixed. Raises MissingExtra where that takes kornia.
    """
    if config.augment.rand:
        check_randaugment(data.span)
    for index, images in enumerate(_unused(data, config, config.bn_batches)):
        rng = np.random.default_rng((config.seed, 2, index))
        yield augment(images.to(device), config.augment, rng, data.fill, data.span)


def plain(data: TrainingData, config: TrainConfig, images: int) -> Iterator[torch.Tensor]:
    """Batches ``[B, C, H, W]`` of that epoch, of so many images or a few more, as they are."""
    return _unused(data, config, math.ceil(images / config.batch))


def _unused(data: TrainingData, config: TrainConfig, count: int) -> Iterator[torch.Tensor]:
    """The first batches of an epoch that training never reaches."""
    batches = data.epoch(config.seed, math.ceil(config.epochs) + 1)
    return (images for images, _ in islice(batches, count))
