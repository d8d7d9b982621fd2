"""A folder of images in the ImageNet layout: one sub-folder a class, perhaps in train/ and val/."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from psvit.data.info import Split
from psvit.data.source import EVAL_WORDS, TRAIN_WORDS, Block
from psvit.errors import DataError

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif"}
)


class Folder:
    """One split of a folder; classes are the names of the sub-folders, sorted."""

    def __init__(self, root: Path, split: Split, *, only: bool) -> None:
        place, first = places(root, split, only)
        names = class_names(first)
        self._files: list[Path] = []
        labels: list[int] = []
        for name in class_names(place):
            if name not in names:
                raise DataError(
                    f"{place} has a class {name!r} that {first} has not: expected the same "
                    "sub-folders in both"
                )
            found = files_in(place / name, SUFFIXES)
            self._files += found
            labels += [names.index(name)] * len(found)
        self.labels: NDArray[np.int64] = np.array(labels, dtype=np.int64)
        self.class_names: tuple[str, ...] = tuple(names)
        self.blocks = (Block(0, len(labels)),)
        self.origin = str(place)

    def read(self, index: int) -> bytes:
        """The bytes of an image file. Raises OSError."""
        return self._files[index].read_bytes()

    def where(self, index: int) -> str:
        """The image's path."""
        return str(self._files[index])


def places(root: Path, split: Split, only: bool, kind: str = "folder") -> tuple[Path, Path]:
    """The folder of the split, and the one whose sub-folders name the classes.

    `kind` is what DATA starts with. Raises DataError for a folder that lacks the split.
    """
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise DataError(f"{kind}:{root} {what}: expected one sub-folder of files a class")
    train = [root / name for name in TRAIN_WORDS if (root / name).is_dir()]
    evaluation = [root / name for name in EVAL_WORDS if (root / name).is_dir()]
    if not train and not evaluation:
        if split == "eval" and not only:
            raise DataError(
                f"{kind}:{root} has no val/ beside train/, so no split to evaluate on: give "
                f"--eval-data {kind}:PATH of other files"
            )
        return root, root
    wanted = train if split == "train" else evaluation
    if not wanted:
        have = " and ".join(f"{folder.name}/" for folder in [*train, *evaluation])
        raise DataError(
            f"{kind}:{root} has {have} but no {'train/' if split == 'train' else 'val/'}: give "
            f"{kind}:{root}/{(train or evaluation)[0].name} to use that one, or add the other"
        )
    if len(wanted) > 1:
        have = " and ".join(f"{folder.name}/" for folder in wanted)
        raise DataError(
            f"{kind}:{root} has both {have}: name the one that you mean, such as "
            f"--{'eval-data' if split == 'eval' else 'data'} {kind}:{wanted[0]}"
        )
    return wanted[0], (train or wanted)[0]


def class_names(folder: Path, kind: str = "folder") -> list[str]:
    """The names of the sub-folders, sorted. Raises DataError if there are none."""
    with os.scandir(folder) as entries:
        names = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    if not names:
        raise DataError(f"{kind}:{folder} has no sub-folders: expected one for each class")
    return names


def files_in(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    """Files of a kind at any depth, in an order that does not depend on the file system."""
    found = [
        Path(place, name)
        for place, _, names in os.walk(folder, followlinks=True)
        for name in names
        if Path(name).suffix.lower() in suffixes and not name.startswith(".")
    ]
    return sorted(found)
