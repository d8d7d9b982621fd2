"""The images that an analysis is made on: the first n of what a loader yields."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from psvit.errors import DataError, OptionError


@dataclass(frozen=True, eq=False)
class Sample:
    """Batches of images ``[B, C, H, W]`` and, with labels, of labels ``[B]``; n images in all.

    ``digest`` is a hash of them all, which does not depend on where batches end. ``looks``: the
    batches that are looked at together, one look after the other; all of them at once if empty.
    """

    images: tuple[torch.Tensor, ...]
    labels: tuple[torch.Tensor, ...] | None
    n: int
    digest: str
    looks: tuple[range, ...] = ()

    @property
    def all_looks(self) -> tuple[range, ...]:
        """The batches of each look."""
        return self.looks or (range(len(self.images)),)

    def look(self, number: int) -> range:
        """The batches of a look."""
        return self.all_looks[number]

    def to(self, device: torch.device) -> Sample:
        """With the images on a device; labels stay where accuracy is counted."""
        return replace(self, images=tuple(x.to(device) for x in self.images))

    def cut(self, sizes: Sequence[int], most: int | None = None) -> Sample:
        """The same images in looks of ``sizes``, in batches no larger than now or than ``most``.

        A look comes in two batches at least, so that two processes have one each.
        """
        batch = max(len(x) for x in self.images)
        batch = batch if most is None else min(batch, most)
        parts: list[int] = []
        looks: list[range] = []
        for size in sizes:
            step = min(batch, max(1, (size + 1) // 2))
            own = [min(step, size - at) for at in range(0, size, step)]
            looks.append(range(len(parts), len(parts) + len(own)))
            parts += own
        images = torch.split(torch.cat(self.images), parts)
        labels = None if self.labels is None else torch.split(torch.cat(self.labels), parts)
        return replace(self, images=images, labels=labels, looks=tuple(looks))


def read_sample(batches: Iterable[Any], n: int, labels: bool) -> Sample:
    """Take the first ``n`` images, and hold them in memory.

    ``batches`` yields ``(images, labels)``, or without labels also images alone. Raises
    DataError for fewer than ``n`` images or batches of another form, OptionError for an ``n``
    that is not a whole number of 2 or more (an interval needs two), or labels that are asked for
    and not there.
    """
    if type(n) is not int or n < 2:
        raise OptionError(f"the number of images is {n!r}, expected a whole number of 2 or more")
    images, targets, count = [], [], 0
    for batch in batches:
        x, y = _split(batch, labels)
        x = x[: n - count].detach()
        count += len(x)
        if len(x):
            images.append(x)
        if y is not None:
            targets.append(y[: len(x)].detach().cpu().long())
        if count == n:
            break
    if count < n:
        raise DataError(
            f"the analysis is to use {n:,} images, the data has {count:,}: ask for at most {count}"
        )
    return Sample(tuple(images), tuple(targets) if labels else None, n, _digest(images, targets))


def _split(batch: Any, labels: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
    parts = batch if isinstance(batch, tuple | list) else (batch,)
    x = parts[0] if parts else None
    if not isinstance(x, torch.Tensor) or x.ndim == 0:
        raise DataError(
            f"the data yields a {type(batch).__name__}: expected (images, labels), two tensors"
        )
    if not labels:
        return x, None
    y = parts[1] if len(parts) > 1 else None
    if not isinstance(y, torch.Tensor) or y.is_floating_point() or y.shape != x.shape[:1]:
        raise OptionError(
            "accuracy is asked for, but the data yields no label (one whole number) an image: "
            "give labelled data, or labels=False (--no-labels) for the KL divergence alone"
        )
    return x, y


def _digest(images: list[torch.Tensor], labels: list[torch.Tensor]) -> str:
    total = hashlib.sha256(str(images[0].dtype).encode())
    for x in images:
        total.update(str(list(x.shape[1:])).encode() if x is images[0] else b"")
        total.update(x.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    for y in labels:
        total.update(y.contiguous().numpy().tobytes())
    return total.hexdigest()[:16]
