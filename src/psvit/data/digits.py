"""scikit-learn's handwritten digits: 1,797 real 8x8 images of 10 classes. Needs scikit-learn.

The split never changes: of every class, the fifth of the images whose hashed position is
smallest is for evaluation. It depends on no version of a random generator. Both parts hold
digits of the same writers.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from psvit.data.info import Split
from psvit.data.source import Block
from psvit.errors import MissingExtra

EVAL_SHARE = 0.2
LEVELS = 16
"""Pixels are whole numbers of 0 to 16; they become 8 bits, round(value * 255 / 16)."""


class Digits:
    """One split of the digits."""

    def __init__(self, split: Split) -> None:
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise MissingExtra(
                "digits needs scikit-learn, which is not installed: pip install 'psvit[digits]'"
            ) from error
        data = load_digits()
        labels = np.asarray(data.target, dtype=np.int64)
        chosen = np.array(split_indices(labels, split))
        pixels = np.rint(np.asarray(data.images) * (255 / LEVELS)).astype(np.uint8)
        self._pixels: NDArray[np.uint8] = pixels[chosen]
        self._positions = chosen
        self.labels: NDArray[np.int64] = labels[chosen]
        self.class_names: tuple[str, ...] = tuple(str(name) for name in data.target_names)
        self.blocks = (Block(0, len(chosen)),)
        self.origin = f"{'80' if split == 'train' else '20'} % of each class, fixed"

    def read(self, index: int) -> NDArray[np.uint8]:
        """Grey pixels ``[8, 8]``."""
        pixels: NDArray[np.uint8] = self._pixels[index]
        return pixels

    def where(self, index: int) -> str:
        """The image's name in an error message."""
        return f"digit {self._positions[index]}"


def split_indices(labels: NDArray[np.int64], split: Split) -> list[int]:
    """Positions of the images of a split, ascending; the two splits partition all of them."""
    evaluation: set[int] = set()
    for label in np.unique(labels):
        members = sorted(np.flatnonzero(labels == label).tolist(), key=_hash)
        evaluation.update(members[: round(EVAL_SHARE * len(members))])
    return [i for i in range(len(labels)) if (i in evaluation) == (split == "eval")]


def _hash(position: int) -> bytes:
    return hashlib.sha256(f"psvit digits {position}".encode()).digest()
