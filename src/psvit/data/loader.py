"""Batches of images that are either whole or left out and counted, on purpose.

B batch, C channels (P polarities of events, over T steps), H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset

from psvit.data.info import DataInfo
from psvit.data.order import Order, calibration_subset
from psvit.data.source import Raw, Source, UndecodableError
from psvit.errors import DataError


@dataclass(frozen=True)
class Bad:
    """An image that gave no tensor. Worker processes return it: an error raised in one would
    reach the user as a page of traceback."""

    text: str
    fatal: bool


class Batch(NamedTuple):
    """Images ``[B, C, H, W]`` or frames ``[B, T, P, H, W]``, None if there are none, their labels
    ``[B]``, and the bad ones."""

    images: torch.Tensor | None
    labels: torch.Tensor
    bad: tuple[Bad, ...]


Item = tuple[torch.Tensor, int] | Bad

Decode = Callable[[Raw], torch.Tensor]
"""What makes a tensor of an image that was read; worker processes get a copy of it."""


def prepare(read: Callable[[], Raw], label: int, where: str, decode: Decode) -> Item:
    """One image as a tensor, or why there is none."""
    try:
        return decode(read()), label
    except UndecodableError as error:
        return Bad(f"{where} cannot be decoded: {error}", fatal=False)
    except OSError as error:
        return Bad(f"{where} cannot be read: {error}", fatal=False)
    except DataError as error:
        return Bad(f"{where}: {error}", fatal=True)


def collate(items: Sequence[Item]) -> Batch:
    """The good ones stacked, the bad ones beside them."""
    good = [item for item in items if not isinstance(item, Bad)]
    return Batch(
        torch.stack([image for image, _ in good]) if good else None,
        torch.tensor([label for _, label in good], dtype=torch.int64),
        tuple(item for item in items if isinstance(item, Bad)),
    )


def noted(bad: tuple[Bad, ...], skipped: tuple[str, ...], skip_bad: bool) -> tuple[str, ...]:
    """`skipped` with these images too. Raises DataError for those that may not be left out."""
    for item in bad:
        if item.fatal:
            raise DataError(item.text)
        if not skip_bad:
            raise DataError(f"{item.text}; --skip-bad leaves such images out")
        if item.text not in skipped:
            skipped = (*skipped, item.text)
    return skipped


class _Images(Dataset[Item]):
    def __init__(self, source: Source, decode: Decode) -> None:
        self._source = source
        self._decode = decode

    def __getitem__(self, index: int) -> Item:
        source = self._source
        return prepare(
            lambda: source.read(index),
            int(source.labels[index]),
            source.where(index),
            self._decode,
        )


class Loader(DataLoader[tuple[torch.Tensor, torch.Tensor]]):
    """Batches ``(images float32 [B, C, H, W], labels int64 [B])`` of a split; of events,
    ``[B, T, P, H, W]``.

    `info` says what is in it; `skipped` says, for the images left out so far, which and why.
    Iterating raises DataError at an image that cannot be decoded unless `skip_bad` was asked
    for, and if no image at all could be. It leaves torch's global random state alone.
    """

    info: DataInfo
    skipped: tuple[str, ...]

    def __init__(
        self,
        source: Source,
        decode: Decode,
        info: DataInfo,
        *,
        batch_size: int,
        workers: int,
        seed: int,
        shuffle: bool,
        skip_bad: bool,
    ) -> None:
        indices = range(len(source.labels)) if info.indices is None else info.indices
        order = Order(indices, source.blocks, shuffle=shuffle, seed=seed)
        super().__init__(
            _Images(source, decode),  # type: ignore[arg-type]  # __iter__ unpacks the batches
            batch_size=batch_size,
            sampler=order,
            num_workers=workers,
            collate_fn=collate,
            generator=torch.Generator().manual_seed(seed),
        )
        self.info = info
        self.skipped = ()
        self._source, self._decode = source, decode
        self._skip_bad = skip_bad
        self._order = order

    def split_off(self, count: int, seed: int) -> tuple[Loader, Loader]:
        """Two loaders: of all but ``count`` of the images, shuffled, and of those, as they lie."""
        info = self.info
        whole = range(len(self._source.labels)) if info.indices is None else info.indices
        drawn = set(calibration_subset(len(whole), count, seed))
        parts = [
            tuple(index for i, index in enumerate(whole) if (i in drawn) is held)
            for held in (False, True)
        ]
        first = self._of(parts[0], shuffle=True, seed=seed)
        return first, self._of(parts[1], shuffle=False, seed=seed)

    def parts(self, images: int) -> list[Loader]:
        """Loaders of consecutive whole batches, of about so many images each, in this order."""
        info = self.info
        whole = range(len(self._source.labels)) if info.indices is None else info.indices
        size = self.batch_size or 1
        step = max(1, images // size) * size
        return [
            self._of(tuple(whole[at : at + step]), shuffle=False)
            for at in range(0, len(whole), step)
        ]

    def _of(self, indices: tuple[int, ...], *, shuffle: bool, seed: int = 0) -> Loader:
        """Another loader, of these images."""
        return Loader(
            self._source,
            self._decode,
            replace(self.info, indices=indices, images=len(indices)),
            batch_size=self.batch_size or 1,
            workers=self.num_workers,
            seed=seed,
            shuffle=shuffle,
            skip_bad=self._skip_bad,
        )

    def set_epoch(self, epoch: int) -> None:
        """Make the next pass the one number `epoch`, from 0: a resumed job shuffles as it would."""
        self._order.epoch = epoch

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:  # type: ignore[override]
        seen = False
        for batch in super().__iter__():
            self.skipped = noted(batch.bad, self.skipped, self._skip_bad)
            if batch.images is not None:
                seen = True
                yield batch.images, batch.labels
        if not seen:
            raise DataError(
                f"{self.info.spec}: none of {len(self._order)} images can be decoded; the first: "
                f"{self.skipped[0]}"
            )
