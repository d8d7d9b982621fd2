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
        found = [(names.index(name), files_in(place / name, SUFFIXES))
                 for name in same_classes(place, first, names)]  # fmt: skip
        # Bytes in one array, not a million strings: workers share it without copying.
        self._names = np.array([os.fsencode(name) for _, files in found for name in files])
        self._place = place
        self.labels: NDArray[np.int64] = np.repeat(
            np.array([label for label, _ in found], dtype=np.int64),
            np.array([len(files) for _, files in found], dtype=np.int64),
        )
        self.class_names: tuple[str, ...] = tuple(names)
        self.blocks = (Block(0, len(self.labels)),)
        self.origin = str(place)
        self.notes = absent(place, names, [names[label] for label, files in found if files])

    def read(self, index: int) -> bytes:
        """The bytes of an image file. Raises OSError."""
        return self._path(index).read_bytes()

    def where(self, index: int) -> str:
        """The image's path."""
        return str(self._path(index))

    def _path(self, index: int) -> Path:
        name = os.fsdecode(bytes(self._names[index]))
        return Path(self._place, self.class_names[self.labels[index]], name)


def same_classes(place: Path, first: Path, names: list[str], kind: str = "folder") -> list[str]:
    """The classes in `place`; raises DataError for one that is not among `names`, of `first`."""
    found = class_names(place, kind)
    for name in set(found) - set(names):
        raise DataError(
            f"{place} has a class {name!r} that {first} has not: expected the same sub-folders in "
            "both"
        )
    return found


def absent(place: Path, names: list[str], present: list[str]) -> tuple[str, ...]:
    """A word on the classes that have no image here, if there are some."""
    gone = sorted(set(names) - set(present))
    if not gone or not present:
        return ()
    more = f" and {len(gone) - 3:,} more" if len(gone) > 3 else ""
    return (
        f"{place} has no images of {len(gone):,} of {len(names):,} classes: "
        f"{', '.join(gone[:3])}{more}",
    )


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
        hint = ""
        if next(folder.glob("ILSVRC2012_val_*"), None) is not None:
            hint = ", and ImageNet's validation images come without: sort them into synset folders"
        raise DataError(f"{kind}:{folder} has no sub-folders: expected one for each class{hint}")
    return names


def files_in(folder: Path, suffixes: frozenset[str]) -> list[str]:
    """Names of the files of a kind, relative to `folder`, at any depth.

    Sorted by sub-folder and name: the order depends on no file system, and is torchvision's.
    """
    found: list[tuple[str, list[str]]] = []
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        files = []
        with os.scandir(folder / inside) as entries:
            for entry in entries:
                name = entry.name
                if entry.is_dir():
                    waiting.append(f"{inside}{name}/")
                elif not name.startswith(".") and os.path.splitext(name)[1].lower() in suffixes:
                    files.append(name)
        found.append((inside, sorted(files)))
    return [inside + name for inside, files in sorted(found) for name in files]
