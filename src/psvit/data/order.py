"""In which order images are read: as they lie, or shuffled without reading any block twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Sampler

from psvit.data.source import Block

WINDOW_BYTES = 64 * 2**20
"""Blocks up to this size together are shuffled as one: half of what a reader keeps."""


class Order(Sampler[int]):
    """Positions of images; epoch after epoch another order, the same again for the same seed.

    Shuffling draws an order of the blocks, then mixes the images of as many consecutive blocks
    as fit into `WINDOW_BYTES`. For anything smaller than that it is a plain shuffle.
    """

    def __init__(
        self, indices: Sequence[int], blocks: Sequence[Block], *, shuffle: bool, seed: int
    ) -> None:
        self.epoch = 0
        self._shuffle = shuffle
        self._seed = seed
        self._size = len(indices)
        positions = np.asarray(indices, dtype=np.int64)
        self._blocks = [
            (block.bytes, positions[(positions >= block.start) & (positions < block.stop)])
            for block in blocks
        ]

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[int]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        if not self._shuffle:
            for _, positions in self._blocks:
                yield from positions.tolist()
            return
        generator = torch.Generator().manual_seed(_mix(self._seed, epoch))
        for window in self._windows(torch.randperm(len(self._blocks), generator=generator)):
            mixed = torch.randperm(len(window), generator=generator).numpy()
            yield from window[mixed].tolist()

    def _windows(
        self, order: torch.Tensor
    ) -> Iterator[np.ndarray[tuple[int, ...], np.dtype[np.int64]]]:
        held, parts = 0, [np.zeros(0, np.int64)]
        for number in order.tolist():
            size, positions = self._blocks[number]
            if held and held + size > WINDOW_BYTES:
                yield np.concatenate(parts)
                held, parts = 0, []
            held += size
            parts.append(positions)
        yield np.concatenate(parts)


def calibration_subset(images: int, n: int, seed: int) -> tuple[int, ...]:
    """`n` of the positions ``0 ... images - 1`` drawn without replacement, ascending.

    All of them if there are no more than `n`. The same for the same seed.
    """
    if n >= images:
        return tuple(range(images))
    generator = torch.Generator().manual_seed(_mix(seed, -1))
    return tuple(sorted(torch.randperm(images, generator=generator)[:n].tolist()))


def _mix(seed: int, epoch: int) -> int:
    """One seed for the pair, so that seed 1 at epoch 0 is not seed 0 at epoch 1."""
    return (seed * 1_000_003 + epoch + 1) % 2**63
