"""Frames of event cameras as SpikingJelly writes them: one npz a recording, `frames` in it.

T steps, P polarities (2: brighter and darker), H height, W width. SpikingJelly's data sets with
`data_type="frame"` and `frames_number=T` (N-MNIST, CIFAR10-DVS, DVS128-Gesture, ...) leave a
folder `frames_number_T_split_by_...` with one sub-folder for each class, perhaps in train/ and
test/. The counts of events are taken as they are, which is what models are trained on.
"""

from __future__ import annotations

import math
import re
import zipfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from psvit.data.folder import absent, class_names, files_in, places, same_classes
from psvit.data.info import Split
from psvit.data.source import EVAL_WORDS, TRAIN_WORDS, Block, UndecodableError
from psvit.errors import DataError

TRAIN_SHARE = 0.9
"""Of each class of a folder without splits, in the order of names, the part to train on: as
every published evaluation on CIFAR10-DVS does (`split_to_train_test_set(0.9, ...)`)."""

_SIZE = re.compile(r"(?P<path>.+)@(?P<size>[1-9]\d*)")


class Events:
    """One split of `events:PATH`, or `events:PATH@SIZE` for frames scaled to SIZE x SIZE."""

    def __init__(self, rest: str, split: Split, *, only: bool) -> None:
        sized = None if Path(rest).exists() else _SIZE.fullmatch(rest)
        self.size = int(sized["size"]) if sized else None
        root = _frames_folder(Path(sized["path"] if sized else rest).expanduser())
        whole = not any((root / word).is_dir() for word in (*TRAIN_WORDS, *EVAL_WORDS))
        place, first = places(root, split, only or whole, "events")
        names = class_names(first, "events")
        self._files: list[Path] = []
        labels: list[int] = []
        for name in same_classes(place, first, names, "events"):
            found = files_in(place / name, frozenset({".npz"}))
            if whole and not only:
                cut = math.ceil(TRAIN_SHARE * len(found))
                found = found[:cut] if split == "train" else found[cut:]
            self._files += [place / name / file for file in found]
            labels += [names.index(name)] * len(found)
        if not labels:
            raise DataError(f"events:{rest} holds no .npz file ({place})")
        self.labels: NDArray[np.int64] = np.array(labels, dtype=np.int64)
        self.class_names = tuple(names)
        self.notes = absent(place, names, [names[label] for label in set(labels)])
        self.blocks = (Block(0, len(labels)),)
        self.origin = str(place)
        if whole and not only:
            part = "first 90" if split == "train" else "last 10"
            self.origin += f", the {part} % of each class"
        try:
            steps, polarities, height, width = self._load(0).shape
        except (UndecodableError, OSError) as error:
            raise DataError(f"{self.where(0)} cannot be read: {error}") from error
        if self.size is not None:
            height = width = self.size
        self.shape = (steps, polarities, height, width)

    def read(self, index: int) -> NDArray[np.float32]:
        """Frames ``[T, P, H, W]``. Raises OSError, UndecodableError, or DataError for another T."""
        frames = self._load(index)
        if self.size is not None:
            # As SDT scales CIFAR10-DVS from 128 to 64: bilinear, without antialiasing.
            size = (self.size, self.size)
            scaled = F.interpolate(torch.from_numpy(frames), size, mode="bilinear")
            frames = scaled.numpy()
        if frames.shape != self.shape:
            raise DataError(
                f"it is {_times(frames.shape)}, others are {_times(self.shape)} (T, P, H, W): "
                "integrate events into the same number of frames (frames_number, not duration)"
            )
        return frames

    def where(self, index: int) -> str:
        """The file's path."""
        return str(self._files[index])

    def _load(self, index: int) -> NDArray[np.float32]:
        try:
            path = self._files[index]
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                if "frames" not in stored:
                    raise UndecodableError(
                        f"it has {', '.join(stored.files) or 'nothing'} and no 'frames': expected "
                        "frames [T, 2, H, W] as SpikingJelly's data_type='frame' writes them"
                    )
                frames = stored["frames"]
        except (ValueError, EOFError, KeyError, zipfile.BadZipFile, NotImplementedError) as error:
            raise UndecodableError(
                f"it is damaged, or no npz of plain numbers ({' '.join(str(error).split())})"
            ) from error
        if frames.ndim != 4 or frames.dtype.kind not in "biuf" or not frames.size:
            raise UndecodableError(
                f"its frames are {frames.dtype} {list(frames.shape)}, expected numbers [T, 2, H, W]"
            )
        counts: NDArray[np.float32] = frames.astype(np.float32)
        return counts


def _frames_folder(root: Path) -> Path:
    """`root`, or the one folder of frames in the folder that SpikingJelly was given."""
    inside = sorted(p for p in root.glob("frames_number_*") if p.is_dir()) if root.is_dir() else []
    if len(inside) > 1:
        have = ", ".join(path.name for path in inside)
        raise DataError(f"events:{root} holds {have}: name the one you mean, events:{inside[0]}")
    return inside[0] if inside else root


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in shape)
