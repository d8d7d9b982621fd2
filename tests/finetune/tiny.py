"""A dense model, a pruned one and data small enough to fine-tune in a test."""

from __future__ import annotations

import torch
from torch import nn

import psvit
from psvit.finetune import Tuning
from psvit.recover.bn import reestimate
from psvit.train import InMemory

TUNING = Tuning(epochs=2, batch=8, lr=5e-3, held_out=0.2, augment="none", seed=3)
"""Two epochs of five steps each, on 40 of 50 images."""


def dense_model(classes: int = 3) -> nn.Module:
    """Convolutions, batch norms with statistics of the data, and a head, from a fixed seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 8, 3, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(8 * 2 * 2, classes),
        ).eval()
    reestimate(model, [images for images, _ in data().plain(10)])
    return model


def pruned(dense: nn.Module) -> nn.Module:
    """Half of the memory gone."""
    return psvit.prune(dense, torch.zeros(2, 1, 6, 6), save={"memory": 0.5}).model


def data(*, labels: bool = True) -> InMemory:
    """50 images 6x6 of 3 classes, brighter from class to class."""
    classes = torch.arange(50) % 3
    noise = torch.randint(0, 60, (50, 1, 6, 6), generator=torch.Generator().manual_seed(1))
    images = (noise + 90 * classes[:, None, None, None]).clamp(0, 255).to(torch.uint8)
    shown = classes if labels else torch.full((50,), -1)
    return InMemory(images, shown, mean=[0.4], std=[0.3], batch=8)
