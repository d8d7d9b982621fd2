"""CIFAR-10 and an ImageNet sample as Parquet, where they are at hand.

Looked for in the folder that PSVIT_DATA names, else in shared/data beside the repository.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from psvit.data import RECIPES, open_data

PLACE = Path(os.environ.get("PSVIT_DATA", Path(__file__).parents[3] / "shared" / "data"))


def _have(pattern: str) -> str:
    if not list(PLACE.glob(pattern)):
        pytest.skip(f"no {pattern} in {PLACE}: set PSVIT_DATA to the folder that holds it")
    return f"parquet:{PLACE}/{pattern}"


@pytest.mark.parametrize(("split", "images"), [("train", 50_000), ("eval", 10_000)])
def test_cifar10_has_its_splits_classes_and_balance(split, images):
    loader = open_data(_have("cifar10-*.parquet"), split=split, recipe=RECIPES["cifar10"])
    info = loader.info
    assert (info.images, info.classes, info.shape) == (images, 10, (3, 32, 32))
    assert info.class_names[3] == "cat"
    images_, labels = next(iter(loader))
    assert images_.shape == (64, 3, 32, 32)
    assert set(labels.tolist()) <= set(range(10))


def test_a_cifar10_calibration_subset_is_normalised():
    spec = _have("cifar10-*.parquet")
    loader = open_data(spec, split="train", recipe=RECIPES["cifar10"], limit=512, batch_size=512)
    images, labels = next(iter(loader))
    assert len(labels) == 512
    assert images.mean((0, 2, 3)).abs().max() < 0.15
    assert (images.std((0, 2, 3)) - 1).abs().max() < 0.15
    assert labels.bincount(minlength=10).min() > 20


def test_imagenet_images_of_any_mode_are_read():
    spec = _have("imagenet-*.parquet")
    options = {"recipe": RECIPES["imagenet"], "limit": 64, "batch_size": 64}
    loader = open_data(spec, split="train", **options)
    images, labels = next(iter(loader))
    assert images.shape == (64, 3, 224, 224)
    assert torch.isfinite(images).all()
    assert labels.unique().numel() == 64
    assert loader.info.classes == 1000
