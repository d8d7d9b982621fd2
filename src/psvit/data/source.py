"""What every kind of stored data set offers: labels at once, images one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from psvit.errors import DataError

EVAL_WORDS = ("val", "valid", "validation", "dev", "test", "testing", "eval", "evaluation")
TRAIN_WORDS = ("train", "training")


Raw = bytes | NDArray[np.uint8] | NDArray[np.float32]
"""An encoded image file, grey pixels ``[H, W]``, or frames of events ``[T, P, H, W]``."""


class UndecodableError(Exception):
    """These bytes are no image that can be read; the message says why."""


@dataclass(frozen=True)
class Block:
    """Images ``start`` to ``stop`` (excluded), which are read together: `bytes` of memory."""

    start: int
    stop: int
    bytes: int = 0


class Source(Protocol):
    """One split. Must be picklable: every worker process reads from a copy of its own."""

    @property
    def origin(self) -> str:
        """In words, which part of the source this is."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """``[number of images]``."""

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """By label; None where the data has no names."""

    @property
    def blocks(self) -> tuple[Block, ...]:
        """A partition of the images, in order."""

    def read(self, index: int) -> Raw:
        """The image before it is decoded. Raises OSError, UndecodableError, or DataError."""

    def where(self, index: int) -> str:
        """The image's name in an error message."""


def check_labels(source: Source, spec: str) -> None:
    """Raises DataError for no image at all, or a label that is no class, and says which."""
    if not len(source.labels):
        raise DataError(f"{spec} holds no image ({source.origin})")
    top = len(source.class_names) if source.class_names is not None else None
    wrong = source.labels < 0
    if top is not None:
        wrong |= source.labels >= top
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        expected = "0 or more" if top is None else f"0 to {top - 1}"
        raise DataError(
            f"{source.where(first)} has label {source.labels[first]}, expected {expected} "
            f"({int(wrong.sum())} of {len(wrong)} labels are outside; -1 often marks a test set "
            "without labels)"
        )
