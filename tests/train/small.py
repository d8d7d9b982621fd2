"""A model and data small enough to train in a test, yet with all that a run has to restore."""

from __future__ import annotations

import torch
from torch import nn

from psvit.train import Augment, InMemory, TrainConfig

CONFIG = TrainConfig(
    epochs=3,
    batch=8,
    lr=1e-2,
    warmup=0.5,
    ema=0.9,
    bn_batches=2,
    log_steps=1,
    seed=3,
    augment=Augment(crop=1, flip=True, erase=0.5, mixup=0.2),
)
"""Three epochs of five steps, everything random switched on."""


def small_model() -> nn.Module:
    """Convolution, batch norm and dropout: buffers, and a random state of its own."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(4 * 4 * 4, 3),
    )


def small_data(batch: int = 8) -> InMemory:
    """43 images 6x6 of 3 classes, brighter from class to class: five batches of 8 an epoch."""
    labels = torch.arange(43) % 3
    noise = torch.randint(0, 60, (43, 1, 6, 6), generator=torch.Generator().manual_seed(1))
    images = (noise + 90 * labels[:, None, None, None]).clamp(0, 255).to(torch.uint8)
    return InMemory(images, labels, mean=[0.4], std=[0.3], batch=batch)
