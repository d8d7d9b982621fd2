"""A case of the zoo: a small model of one pattern, and what must be true of its axes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Case:
    """How to build a model, how to feed it, and which axes ("layer.weight:0") can be pruned.

    ``prunable``: axes of which every position belongs to a group that can be pruned.
    ``locked``: axes of which no position does, each with why removal cannot be exact.
    ``heads``: attention heads that can go one by one, at least.
    ``unknown``: operations that have to be reported as such.
    """

    build: Callable[[], nn.Module]
    inputs: Callable[[int], tuple[Tensor, ...]]
    prunable: tuple[str, ...] = ()
    locked: Mapping[str, str] = field(default_factory=dict)
    heads: int = 0
    unknown: tuple[str, ...] = ()


@contextmanager
def float64() -> Iterator[None]:
    """Tensors that are created without a dtype are float64: one spike that flips by a rounding
    error would be a difference of 1, so exactness is judged in float64 only."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def images(
    channels: int = 3, size: int = 6, *, count: int = 1
) -> Callable[[int], tuple[Tensor, ...]]:
    """Batches of ``count`` inputs [B, channels, size, size], the same for the same batch size."""
    return _batches((channels, size, size), count)


def points(*shape: int, count: int = 1) -> Callable[[int], tuple[Tensor, ...]]:
    """Batches of ``count`` inputs [B, *shape]."""
    return _batches(shape, count)


def words(length: int, vocabulary: int) -> Callable[[int], tuple[Tensor, ...]]:
    """Batches of integers [B, length] below ``vocabulary``."""

    def make(batch: int) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(batch)
        return (torch.randint(vocabulary, (batch, length), generator=generator),)

    return make


def _batches(shape: tuple[int, ...], count: int) -> Callable[[int], tuple[Tensor, ...]]:
    def make(batch: int) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(batch)
        return tuple(
            torch.randn(batch, *shape, generator=generator, dtype=torch.float64)
            for _ in range(count)
        )

    return make
