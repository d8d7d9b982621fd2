"""The training images, and the part of them that is held out to choose the weights to keep.

The test split has no part in this. B batch, C channels, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, Subset

from psvit.data import Recipe, calibration_subset
from psvit.errors import DataError
from psvit.finetune.tuning import Tuning
from psvit.train import FromLoader, InMemory, TrainingData, labelled_batch, read_into_memory

MEMORY_BYTES = 2**30
"""Data sets up to this size are decoded once and kept."""

MOST_HELD_OUT = 2048
"""Images: more would tell little, and cost time in every epoch."""


@dataclass(frozen=True)
class Split:
    """``train``, and batches of what is held out of it, anew at each call; None: nothing is."""

    train: TrainingData
    held_out: Callable[[], Iterable[Any]] | None
    images: int
    """Held out."""


def split(data: Any, tuning: Tuning) -> Split:
    """Training data out of what a user gives, in batches.

    ``data``: ``InMemory``, what ``psvit.data.open_data`` gives, any DataLoader, or an iterable of
    ``(images, labels)`` or images alone, which is read into memory. Of a DataLoader that has no
    length, or of which nobody can tell images apart, nothing is held out.

    Raises DataError for data without images, or too few to hold out any.
    """
    if isinstance(data, InMemory):
        return _split_memory(data, tuning)
    info = getattr(data, "info", None)
    if info is not None and hasattr(data, "split_off"):
        return _split_prepared(data, info, tuning)
    own = getattr(data, "own", data)
    if isinstance(own, DataLoader):
        return _split_loader(own, tuning)
    return _split_memory(_read(data, tuning), tuning)


def _held(images: int, tuning: Tuning) -> int:
    """How many of so many images are held out."""
    if not tuning.held_out:
        return 0
    held = min(MOST_HELD_OUT, math.ceil(tuning.held_out * images))
    if held >= images:
        raise DataError(
            f"the training data has {images} images: too few to hold some out and train on others"
        )
    return held


def _split_memory(data: InMemory, tuning: Tuning) -> Split:
    held = _held(len(data), tuning)
    if not held:
        return Split(data, None, 0)
    train, rest = data.split_off(held / len(data), tuning.seed)
    return Split(train, rest.plain, len(rest))


def _split_prepared(data: Any, info: Any, tuning: Tuning) -> Split:
    """psvit's own loaders: small data sets in memory, others from where they lie."""
    recipe: Recipe | None = info.recipe
    images = data.count() if info.images is None else info.images
    values = images * math.prod(info.shape)
    if recipe is None and values * 4 <= MEMORY_BYTES:  # frames of events are floats
        return _split_memory(_read(data, tuning), tuning)
    if recipe is not None and values <= MEMORY_BYTES:
        memory = read_into_memory(data, mean=recipe.mean, std=recipe.std, batch=tuning.batch)
        return _split_memory(memory, tuning)
    held = _held(images, tuning)
    train, rest = data.split_off(held, tuning.seed)
    known = FromLoader(train) if recipe is None else FromLoader(train, recipe.mean, recipe.std)
    return Split(known, (lambda: rest) if held else None, held)


def _split_loader(loader: DataLoader[Any], tuning: Tuning) -> Split:
    """A user's loader: the same batches and workers, over two parts of the same data set."""
    first = next(iter(loader), None)
    if first is None:
        raise DataError("the training data has no images")
    labelled = bool((labelled_batch(first)[1] >= 0).all())
    apart = not isinstance(loader.dataset, IterableDataset) and loader.batch_size is not None
    if not apart or not tuning.held_out:
        return Split(FromLoader(loader, labelled=labelled), None, 0)
    size = len(loader.dataset)  # type: ignore[arg-type]
    held = set(calibration_subset(size, _held(size, tuning), tuning.seed))
    parts = [i for i in range(size) if i not in held], sorted(held)
    loaders = [
        DataLoader(
            Subset(loader.dataset, chosen),
            batch_size=loader.batch_size,
            shuffle=chosen is parts[0],
            drop_last=chosen is parts[0] and len(chosen) > (loader.batch_size or 1),
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
            pin_memory=loader.pin_memory,
        )
        for chosen in parts
    ]
    return Split(FromLoader(loaders[0], labelled=labelled), lambda: loaders[1], len(held))


def _read(data: Iterable[Any], tuning: Tuning) -> InMemory:
    pairs = [labelled_batch(batch) for batch in data]
    if not pairs:
        raise DataError("the training data has no images")
    images, labels = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    return InMemory(images, labels.long(), mean=None, std=None, batch=tuning.batch)
