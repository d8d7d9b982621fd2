"""Data that are read from their start, image by image, and never all at once.

B batch, C channels, H height, W width.
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, IterableDataset

from psvit.data.info import DataInfo
from psvit.data.loader import Bad, Decode, Item, collate, noted, prepare
from psvit.data.source import Block
from psvit.errors import DataError

HELD_IMAGES = 8192
"""A draw of up to so many images is kept in memory, encoded: about 1 GB of ImageNet."""


class Row(NamedTuple):
    """An encoded image, its label and its name in an error message."""

    data: bytes
    label: int
    where: str


class Stream(Protocol):
    """One split, in the order in which it comes."""

    @property
    def origin(self) -> str:
        """In words, which part of the source this is."""

    @property
    def version(self) -> str | None:
        """What the source calls the state that is read, such as a commit; None: nothing."""

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """By label; None where the data has no names."""

    @property
    def images(self) -> int | None:
        """How many there are; None where only reading them would tell."""

    def count(self) -> int:
        """How many there are, where that can be found out. Raises DataError."""

    def rows(self, seed: int | None, epoch: int = 0) -> Iterator[Row]:
        """Each image once: as they lie, or mixed by `seed` and `epoch`. Raises DataError."""


class Drawn:
    """The first `limit` images of a mixed stream, in memory: a `Source`.

    They are as good a sample as the stream mixes well, and the same again for the same seed.
    """

    def __init__(self, stream: Stream, limit: int, seed: int) -> None:
        self._rows = list(islice(stream.rows(seed), limit))
        self.labels: NDArray[np.int64] = np.array([r.label for r in self._rows], dtype=np.int64)
        self.class_names = stream.class_names
        self.version, self.total = stream.version, stream.images
        self.blocks = (Block(0, len(self._rows)),)
        self.origin = f"{stream.origin}, {len(self._rows)} images drawn"

    def read(self, index: int) -> bytes:
        """The encoded image."""
        return self._rows[index].data

    def where(self, index: int) -> str:
        """The image's name in an error message."""
        return self._rows[index].where

    def digest(self) -> str:
        """A hash of what was drawn: labels and encoded images, in order."""
        total = hashlib.sha256(self.labels.tobytes())
        for row in self._rows:
            total.update(hashlib.sha256(row.data).digest())
        return total.hexdigest()


@dataclass(frozen=True)
class _Part:
    """The images whose hash lies in a range of [0, 1): a share that no order changes."""

    low: float = 0.0
    high: float = 1.0
    seed: int = 0

    def holds(self, row: Row) -> bool:
        if (self.low, self.high) == (0.0, 1.0):
            return True
        text = hashlib.sha256(f"{self.seed} {row.label} ".encode() + row.data).digest()
        return self.low <= int.from_bytes(text[:8], "big") / 2**64 < self.high


class StreamLoader(DataLoader[tuple[torch.Tensor, torch.Tensor]]):
    """Batches ``(images float32 [B, C, H, W], labels int64 [B])`` of a stream.

    One reader fetches, `workers` threads decode; their number changes nothing in what comes.
    `info`, `skipped` and what iterating raises are as those of `Loader`.
    """

    info: DataInfo
    skipped: tuple[str, ...]

    def __init__(
        self,
        stream: Stream,
        decode: Decode,
        info: DataInfo,
        *,
        batch_size: int,
        workers: int,
        seed: int,
        shuffle: bool,
        skip_bad: bool,
        limit: int | None = None,
        part: _Part | None = None,
    ) -> None:
        super().__init__(_Nothing(), batch_size=batch_size)
        self.info, self.skipped = info, ()
        self._stream, self._decode, self._part = stream, decode, part or _Part()
        self._threads, self._seed, self._limit = workers, seed, limit
        self._mixed = shuffle or limit is not None
        self._shuffle, self._skip_bad = shuffle, skip_bad
        self._epoch = 0

    def __len__(self) -> int:
        """Number of batches. Raises TypeError where only reading would tell."""
        images = self.info.images
        if images is None:
            raise TypeError("how many batches a stream has is known only once it is read")
        return math.ceil(images / (self.batch_size or 1))

    def __bool__(self) -> bool:
        """True: data that cannot say how much they are, are data."""
        return True

    def count(self) -> int:
        """How many images there are. Raises DataError where that cannot be known."""
        return self._stream.count() if self.info.images is None else self.info.images

    def split_off(self, count: int, seed: int) -> tuple[StreamLoader, StreamLoader]:
        """Two loaders: of all but about ``count`` of the images, shuffled, and of those.

        A hash of each image decides, so that the two share none, whatever order they come in.
        """
        images = self.count()
        share = count / images
        spare = math.ceil(4 * math.sqrt(count))  # the hash may hold out a few more
        first = self._like(max(1, images - count - spare), _Part(share, 1.0, seed), shuffle=True)
        return first, self._like(None, _Part(0.0, share, seed), shuffle=False)

    def _like(self, images: int | None, part: _Part, *, shuffle: bool) -> StreamLoader:
        return StreamLoader(
            self._stream,
            self._decode,
            replace(self.info, images=images),
            batch_size=self.batch_size or 1,
            workers=self._threads,
            seed=self._seed,
            shuffle=shuffle,
            skip_bad=self._skip_bad,
            limit=images,
            part=part,
        )

    def set_epoch(self, epoch: int) -> None:
        """Make the next pass the one number `epoch`, from 0."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:  # type: ignore[override]
        epoch, self._epoch = self._epoch, self._epoch + 1 if self._shuffle else 0
        rows = self._stream.rows(self._seed if self._mixed else None, epoch)
        rows = filter(self._part.holds, rows)
        items = self._prepared(rows if self._limit is None else islice(rows, self._limit))
        seen = False
        while chunk := list(islice(items, self.batch_size)):
            batch = collate(chunk)
            self.skipped = noted(batch.bad, self.skipped, self._skip_bad)
            if batch.images is not None:
                seen = True
                yield batch.images, batch.labels
        if not seen:
            first = f"; the first: {self.skipped[0]}" if self.skipped else ""
            raise DataError(f"{self.info.spec} gives no image ({self.info.origin}){first}")

    def _prepared(self, rows: Iterator[Row]) -> Iterator[Item]:
        """Decoded in order, a little ahead of what is asked for."""
        if not self._threads:
            yield from map(self._prepare, rows)
            return
        with ThreadPoolExecutor(self._threads) as pool:
            waiting: deque[Future[Any]] = deque()
            ahead = self._threads + 2 * (self.batch_size or 1)
            try:
                for row in rows:
                    waiting.append(pool.submit(self._prepare, row))
                    if len(waiting) > ahead:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _prepare(self, row: Row) -> Item:
        classes = self.info.classes
        if row.label < 0 or (classes is not None and row.label >= classes):
            expected = "0 or more" if classes is None else f"0 to {classes - 1}"
            return Bad(
                f"{row.where} has label {row.label}, expected {expected} (-1 often marks a test "
                "set without labels)",
                fatal=True,
            )
        return prepare(lambda: row.data, row.label, row.where, self._decode)


class _Nothing(IterableDataset[Any]):
    """A DataLoader needs a data set; the batches come from the stream."""

    def __iter__(self) -> Iterator[Any]:
        return iter(())
