"""Training images as a run augments them, to take batch-norm statistics of."""

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
    batches = data.epoch(config.seed, math.ceil(config.epochs) + 1)
    for index, (images, _) in enumerate(islice(batches, config.bn_batches)):
        rng = np.random.default_rng((config.seed, 2, index))
        yield augment(images.to(device), config.augment, rng, data.fill, data.span)
