"""What is known about a data set before its images are read, and whether a model fits it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any, Literal

from psvit.data.recipe import Recipe
from psvit.errors import DataError

Split = Literal["train", "eval"]


@dataclass(frozen=True)
class DataInfo:
    """A split of a data set, as `open_data` found it. None: not known.

    `images` counts those that will be read, before any that cannot be decoded are skipped.
    `shape` is that of one image, ``(C, H, W)``, or of one
    recording of events, ``(T, P, H, W)``. `classes` comes from names in the data;
    where there are none it is None, and `largest_label` bounds it from below.
    `origin` says in words which part of the source this is. `indices` are the positions in
    that part of a random subset, ascending; None: all of it. `version` is what the source calls
    its state, such as a commit; `digest` hashes the images of a draw that has no positions.
    `notes` are words on what the data lack. `total` counts the images of the part, before a subset
    was drawn.
    """

    spec: str
    split: Split
    origin: str
    shape: tuple[int, ...]
    images: int | None = None
    classes: int | None = None
    class_names: tuple[str, ...] | None = None
    largest_label: int | None = None
    recipe: Recipe | None = None
    indices: tuple[int, ...] | None = None
    version: str | None = None
    digest: str | None = None
    notes: tuple[str, ...] = ()
    total: int | None = None

    @property
    def channels(self) -> int:
        """C of the images: 1 (grey) or 3 (colour); of events the polarities, 2."""
        return self.shape[-3]


def draw_record(info: DataInfo, seed: int) -> dict[str, Any]:
    """What was drawn, as plain data: enough to draw it again, and to see that it is the same.

    `indices_sha256` hashes the positions, as numbers with commas between them, that
    ``psvit.data.calibration_subset(total, images, seed)`` gives; `images_sha256` hashes the images
    themselves of a draw out of a stream.
    """
    record: dict[str, Any] = {
        "data": info.spec,
        "part": info.origin,
        "images": info.images,
        "total": info.total,
        "seed": seed,
        "version": info.version,
        "images_sha256": info.digest,
    }
    if info.indices is not None:
        text = ",".join(str(index) for index in info.indices)
        record["indices_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    return {key: value for key, value in record.items() if value is not None}


def check_classes(info: DataInfo, num_classes: int) -> None:
    """Raises DataError unless labels of `info` are classes of a model that has `num_classes`."""
    if info.classes is not None and info.classes != num_classes:
        raise DataError(
            f"{info.spec} has {info.classes} classes, the model has {num_classes}: {_cure(info)}"
        )
    if info.largest_label is not None and info.largest_label >= num_classes:
        raise DataError(
            f"{info.spec} has labels up to {info.largest_label}, the model has {num_classes} "
            f"classes: expected labels of 0 to {num_classes - 1}"
        )


def _cure(info: DataInfo) -> str:
    """What to do about another number of classes."""
    names = info.class_names or ()
    if 1000 > len(names) > 900 and all(re.fullmatch(r"n\d{8}", name) for name in names):
        return (
            f"{1000 - len(names):,} of ImageNet's 1,000 synset folders are missing, and labels "
            "count the folders: add them, empty ones will do"
        )
    return "give the data that the model was trained on, or build the model with as many classes"


def check_shape(info: DataInfo, shape: tuple[int, ...]) -> None:
    """Raises DataError unless images are of `shape`, the ``(C, H, W)`` that a model takes."""
    if info.shape == tuple(shape):
        return
    if len(shape) == len(info.shape) == 3 and info.channels != shape[0]:
        raise DataError(
            f"{info.spec} gives images of {info.channels} channel(s), the model takes "
            f"{shape[0]}: change the recipe (one --mean and --std a channel) or the data"
        )
    raise DataError(
        f"{info.spec} gives images of {_times(info.shape)}, the model takes {_times(shape)}: "
        + ("change --size" if info.recipe is not None else "give other data, or another model")
    )


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in shape)
