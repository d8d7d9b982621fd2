"""Where training batches come from: images held in memory, or a DataLoader.

Both hand out epoch ``e`` the same way every time it is asked for, from any step on: that is what
makes a resumed run see what the killed one would have seen. B batch, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, Protocol

import numpy as np
import torch

from psvit.errors import DataError

Batch = tuple[torch.Tensor, torch.Tensor]
"""Normalised images ``[B, C, H, W]`` and labels ``[B]``, -1 where there are none."""

Part = tuple[int, int]
"""Which of how many processes: each takes its share of every batch."""

WHOLE: Part = (0, 1)


class TrainingData(Protocol):
    """A training set in batches."""

    @property
    def steps(self) -> int:
        """Batches an epoch."""

    @property
    def images(self) -> int:
        """Images an epoch."""

    @property
    def labelled(self) -> bool:
        """Whether there are labels."""

    @property
    def fill(self) -> torch.Tensor:
        """What a pixel without image is, after normalisation, ``[C]``."""

    @property
    def span(self) -> torch.Tensor | None:
        """What lies between black and white, after normalisation, ``[C]``; None: not known."""

    def epoch(self, seed: int, epoch: int, start: int = 0, part: Part = WHOLE) -> Iterator[Batch]:
        """The batches of one epoch from batch ``start`` on, in an order set by the numbers."""


class InMemory:
    """Images as uint8 ``[N, C, H, W]``, shuffled and normalised a batch at a time.

    With ``mean`` and ``std`` None they are normalised floats already. An incomplete last batch is
    dropped, unless it is the only one: batch norm dislikes it, and the next epoch is shuffled anew.
    """

    def __init__(
        self,
        images: torch.Tensor,
        labels: torch.Tensor,
        *,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        batch: int,
    ) -> None:
        if len(images) == 0 or len(images) != len(labels):
            raise DataError(
                f"training needs one label an image, got {len(images)} images "
                f"and {len(labels)} labels"
            )
        self._images, self._labels = images, labels
        self._mean = self._std = None
        if mean is not None and std is not None:
            self._mean = torch.tensor(mean)[:, None, None] * 255
            self._std = torch.tensor(std)[:, None, None] * 255
        self.labelled = bool((labels >= 0).all())
        self.batch = batch

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        return max(1, len(self._images) // self.batch)

    @property
    def images(self) -> int:
        """Images an epoch."""
        return min(len(self._images), self.steps * self.batch)

    @property
    def fill(self) -> torch.Tensor:
        """The value of a black pixel, ``[C]``; 0 where that is not known."""
        if self._mean is None or self._std is None:
            return torch.zeros(self._images.shape[1], device=self._images.device)
        return (-self._mean / self._std).flatten()

    @property
    def span(self) -> torch.Tensor | None:
        """See ``TrainingData``."""
        return None if self._std is None else (255 / self._std).flatten()

    def epoch(self, seed: int, epoch: int, start: int = 0, part: Part = WHOLE) -> Iterator[Batch]:
        """Shuffled batches; see ``TrainingData``."""
        order = torch.from_numpy(np.random.default_rng((seed, epoch)).permutation(len(self)))
        for i in range(start, self.steps):
            chosen = order[i * self.batch : (i + 1) * self.batch][part[0] :: part[1]]
            chosen = chosen.to(self._images.device)
            yield self._normalised(chosen), self._labels[chosen]

    def plain(self, batch: int = 256) -> Iterator[Batch]:
        """Every image once, in order."""
        for start in range(0, len(self), batch):
            chosen = torch.arange(start, min(start + batch, len(self)))
            yield self._normalised(chosen), self._labels[chosen]

    def to(self, device: str | torch.device) -> InMemory:
        """The same images in the memory of another device."""
        moved = self._part(slice(None))
        moved._images, moved._labels = moved._images.to(device), moved._labels.to(device)
        if moved._mean is not None and moved._std is not None:
            moved._mean, moved._std = moved._mean.to(device), moved._std.to(device)
        return moved

    def split_off(self, share: float, seed: int) -> tuple[InMemory, InMemory]:
        """Two parts: all but ``share`` of the images, and those, drawn by ``seed``."""
        order = torch.from_numpy(np.random.default_rng(seed).permutation(len(self)))
        cut = len(self) - math.ceil(share * len(self))
        return self._part(order[:cut]), self._part(order[cut:])

    def _part(self, chosen: torch.Tensor | slice) -> InMemory:
        part = InMemory.__new__(InMemory)
        part._mean, part._std, part.batch = self._mean, self._std, self.batch
        part.labelled = self.labelled
        part._images, part._labels = self._images[chosen], self._labels[chosen]
        return part

    def _normalised(self, chosen: torch.Tensor) -> torch.Tensor:
        images = self._images[chosen].float()
        if self._mean is None or self._std is None:
            return images
        return (images - self._mean) / self._std

    def __len__(self) -> int:
        return len(self._images)


def read_into_memory(
    loader: Iterable[Batch], *, mean: Sequence[float], std: Sequence[float], batch: int
) -> InMemory:
    """Read a loader of images normalised by ``mean`` and ``std``, once, back into 8 bits."""
    scale = torch.tensor(std)[:, None, None]
    shift = torch.tensor(mean)[:, None, None]
    images, labels = [], []
    for x, y in loader:
        images.append(((x * scale + shift) * 255).round().clamp(0, 255).to(torch.uint8))
        labels.append(y.long())
    if not images:
        raise DataError("the training data has no images")
    return InMemory(torch.cat(images), torch.cat(labels), mean=mean, std=std, batch=batch)


class FromLoader:
    """Batches of a DataLoader, shuffled anew by epoch: through its ``set_epoch`` if it has one.

    Resuming inside an epoch reads and discards the batches before, and each of several processes
    reads whole batches to take its share of them. ``mean`` and ``std`` of the normalisation, where
    they are known, tell what black and white are.
    """

    def __init__(
        self,
        loader: torch.utils.data.DataLoader[Batch],
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        *,
        labelled: bool = True,
    ) -> None:
        self._loader = loader
        self._fill, self._span = torch.zeros(1), None
        if mean is not None and std is not None:
            self._fill = -torch.tensor(mean) / torch.tensor(std)
            self._span = 1 / torch.tensor(std)
        self.labelled = labelled

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        return len(self._loader)

    @property
    def images(self) -> int:
        """Images an epoch, if every batch is full."""
        return self.steps * (self._loader.batch_size or 1)

    @property
    def fill(self) -> torch.Tensor:
        """The value of a black pixel, ``[C]``; 0 where that is not known."""
        return self._fill

    @property
    def span(self) -> torch.Tensor | None:
        """See ``TrainingData``."""
        return self._span

    def epoch(self, seed: int, epoch: int, start: int = 0, part: Part = WHOLE) -> Iterator[Batch]:
        """The loader's batches; see ``TrainingData``."""
        for owner in (self._loader, self._loader.sampler):
            set_epoch = getattr(owner, "set_epoch", None)
            if set_epoch is not None:
                set_epoch(epoch)
        # A sampler without set_epoch draws its order from the global generator at this point.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed * 1_000_003 + epoch)
            iterator = iter(self._loader)
            first = list(islice(iterator, start, start + 1))
        for batch in chain(first, iterator):
            images, labels = labelled_batch(batch)
            yield images[part[0] :: part[1]], labels[part[0] :: part[1]]


def labelled_batch(batch: Any) -> Batch:
    """``(images, labels)`` of what data yield: pairs, or images alone. Raises DataError."""
    pair = batch if isinstance(batch, tuple | list) else (batch,)
    if not pair or not all(isinstance(t, torch.Tensor) and t.ndim for t in pair[:2]):
        raise DataError(
            f"the data yields a {type(batch).__name__}: expected (images, labels), two tensors"
        )
    images = pair[0]
    if len(pair) > 1:
        return images, pair[1].long()
    return images, torch.full((len(images),), -1)
