"""Batches of images that are either whole or left out and counted, on purpose.

B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset

from psvit.data.info import DataInfo
from psvit.data.order import Order, calibration_subset
from psvit.data.pixels import UndecodableError, to_tensor
from psvit.data.recipe import Recipe
from psvit.data.source import Source
from psvit.errors import DataError


@dataclass(frozen=True)
class _Bad:
    """An image that gave no tensor. Worker processes return it: an error raised in one would
    reach the user as a page of traceback."""

    text: str
    fatal: bool


class _Batch(NamedTuple):
    images: torch.Tensor | None
    labels: torch.Tensor
    bad: tuple[_Bad, ...]


_Item = tuple[torch.Tensor, int] | _Bad


class _Images(Dataset[_Item]):
    def __init__(self, source: Source, recipe: Recipe) -> None:
        self._source = source
        self._recipe = recipe

    def __getitem__(self, index: int) -> _Item:
        source = self._source
        try:
            return to_tensor(source.read(index), self._recipe), int(source.labels[index])
        except UndecodableError as error:
            return _Bad(f"{source.where(index)} cannot be decoded: {error}", fatal=False)
        except OSError as error:
            return _Bad(f"{source.where(index)} cannot be read: {error}", fatal=False)
        except DataError as error:
            return _Bad(f"{source.where(index)}: {error}", fatal=True)


def _collate(items: Sequence[_Item]) -> _Batch:
    good = [item for item in items if not isinstance(item, _Bad)]
    return _Batch(
        torch.stack([image for image, _ in good]) if good else None,
        torch.tensor([label for _, label in good], dtype=torch.int64),
        tuple(item for item in items if isinstance(item, _Bad)),
    )


class Loader(DataLoader[tuple[torch.Tensor, torch.Tensor]]):
    """Batches ``(images float32 [B, C, H, W], labels int64 [B])`` of a split.

    `info` says what is in it; `skipped` says, for the images left out so far, which and why.
    Iterating raises DataError at an image that cannot be decoded unless `skip_bad` was asked
    for, and if no image at all could be. It leaves torch's global random state alone.
    """

    info: DataInfo
    skipped: tuple[str, ...]

    def __init__(
        self,
        source: Source,
        recipe: Recipe,
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
            _Images(source, recipe),  # type: ignore[arg-type]  # __iter__ unpacks the batches
            batch_size=batch_size,
            sampler=order,
            num_workers=workers,
            collate_fn=_collate,
            generator=torch.Generator().manual_seed(seed),
        )
        self.info = info
        self.skipped = ()
        self._source, self._recipe = source, recipe
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
        first, second = (
            Loader(
                self._source,
                self._recipe,
                replace(info, indices=indices, images=len(indices)),
                batch_size=self.batch_size or 1,
                workers=self.num_workers,
                seed=seed,
                shuffle=indices is parts[0],
                skip_bad=self._skip_bad,
            )
            for indices in parts
        )
        return first, second

    def set_epoch(self, epoch: int) -> None:
        """Make the next pass the one number `epoch`, from 0: a resumed job shuffles as it would."""
        self._order.epoch = epoch

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:  # type: ignore[override]
        seen = False
        for batch in super().__iter__():
            self._take_note(batch.bad)
            if batch.images is not None:
                seen = True
                yield batch.images, batch.labels
        if not seen:
            raise DataError(
                f"{self.info.spec}: none of {len(self._order)} images can be decoded; the first: "
                f"{self.skipped[0]}"
            )

    def _take_note(self, bad: tuple[_Bad, ...]) -> None:
        for item in bad:
            if item.fatal:
                raise DataError(item.text)
            if not self._skip_bad:
                raise DataError(f"{item.text}; --skip-bad leaves such images out")
            if item.text not in self.skipped:
                self.skipped = (*self.skipped, item.text)
