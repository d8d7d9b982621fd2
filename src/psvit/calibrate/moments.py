"""collect(graph, consumers, images) -> Moments: what the dense model feeds to each weight.

One streamed pass over calibration images, without labels or gradients. Of each input only the
mean and the second moment ``X^T X / n`` are kept: what least squares needs, whatever is pruned
later. Products run in the dtype of the activations (float32; spikes are exact up to 2**24), sums
over chunks in float64. Operations that read the same tensor in the same way (q, k and v) share
their moments.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import fx
from torch.nn import functional

from psvit.calibrate.consumers import Consumer
from psvit.calibrate.patches import Geometry, count_rows, patches
from psvit.calibrate.products import Product, squared
from psvit.capture.running import Watcher, inputs_in, run_batch, settled
from psvit.errors import DataError, ModelError
from psvit.records import Graph, IntArray

LIMIT_BYTES = 4 << 30
"""Memory that all second moments together may take. Beyond it the widest inputs are split into
blocks whose correlations with one another are not kept; ``Moments.notes`` says which."""

ROWS_PER_COLUMN = 64
"""Rows drawn for each column of an input, if there are as many: more would change the solution
by less than the images themselves do, and cost rows * columns**2 products."""

FEWEST_ROWS = 1 << 14
"""All rows are used up to here."""

Progress = Callable[[int, int | None], None]
"""Called with the images seen and how many there will be."""


@dataclass(frozen=True, eq=False)
class Part:
    """Moments of some columns. ``columns`` ``[p]``, within those of a convolution group.

    ``second`` ``[G, p, p]``: mean over rows of x x^T; ``mean`` ``[G, p]``. float64, on the device
    that the model ran on, where fits are solved as well.
    """

    columns: torch.Tensor
    second: torch.Tensor
    mean: torch.Tensor

    def to(self, device: str | torch.device) -> Part:
        """The same on another device."""
        return Part(self.columns.to(device), self.second.to(device), self.mean.to(device))

    def covariance(self, group: int, *, centred: bool) -> torch.Tensor:
        """``[p, p]`` of a convolution group: the covariance, or the second moment itself."""
        if not centred:
            return self.second[group]
        mean = self.mean[group]
        return self.second[group] - mean[:, None] * mean


@dataclass(frozen=True, eq=False)
class Moments:
    """By consumer (``Consumer.weight``) its parts, which cover every column once, and its rows.

    ``products``: by group the ``[C, C]`` matrix S of ``psvit.calibrate.products``, an image.
    ``images``: how many were run, ``digest`` a hash of them. ``notes``: what fell short, in words.
    """

    parts: Mapping[str, tuple[Part, ...]]
    rows: Mapping[str, int]
    products: Mapping[int, torch.Tensor]
    images: int
    notes: tuple[str, ...] = ()
    digest: str = ""


def collect(
    graph: Graph,
    consumers: Iterable[Consumer],
    images: Sequence[Any],
    *,
    products: Iterable[Product] = (),
    rows_per_column: int = ROWS_PER_COLUMN,
    limit_bytes: int = LIMIT_BYTES,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> Moments:
    """The moments of every consumer that could lose an input and keep another, and of products.

    ``images``: batches of inputs, e.g. ``[B, C, H, W]``, or sequences that start with them.
    ``rows_per_column`` bounds the rows that count, drawn at random by ``seed`` from all positions
    of all images; ``limit_bytes`` the memory, see ``LIMIT_BYTES``. The graph is as before
    afterwards. Raises DataError for no images, for images that are all the same or not finite,
    ModelError if the model fails on a batch or an activation is not finite.
    """
    batches = [inputs_in(batch, len(graph.inputs)) for batch in images]
    total = sum(len(batch[0]) for batch in batches)
    check_images([batch[0] for batch in batches])
    place = torch.device(device)
    tallies = _tallies([c for c in consumers if can_lose(c)])
    notes = _fit_into(list(tallies.values()), limit_bytes)
    gathered = [_Gathered(product) for product in products]
    watcher = _Collector(graph, tallies.values(), gathered, total, rows_per_column, seed)
    done = 0
    with settled(graph, place, seed):
        for batch in batches:
            run_batch(graph, watcher, [x.to(place) for x in batch])
            done += len(batch[0])
            if progress is not None:
                progress(done, total)
    parts, rows = {}, {}
    for tally in tallies.values():
        made = tally.parts()
        for consumer in tally.consumers:
            parts[consumer.weight], rows[consumer.weight] = made, tally.rows
    notes += _few_rows(tallies.values(), total)
    shared = _by_group(gathered, total)
    return Moments(parts, rows, shared, total, tuple(notes), _digest(batches))


def can_lose(consumer: Consumer) -> bool:
    """Whether removing a channel leaves the operation others to make up for it.

    Not so where nothing it reads is a channel, and not in a depthwise convolution, whose filters
    go with the one channel that they read.
    """
    return len(consumer.group) > consumer.geometry.groups and bool(consumer.groups_read)


def check_images(batches: Sequence[torch.Tensor]) -> None:
    """Raises DataError for no images, or images that cannot tell anything."""
    if not sum(len(batch) for batch in batches):
        raise DataError(
            "no calibration images were given: which channels matter is measured on training images"
        )
    if not all(bool(torch.isfinite(batch).all()) for batch in batches):
        raise DataError("a calibration image holds NaN or infinite values: check the data")
    first = next(batch[:1] for batch in batches if len(batch))
    count = sum(len(batch) for batch in batches)
    if count > 1 and all(bool((batch == first).all()) for batch in batches):
        raise DataError(
            f"all {count:,} calibration images are the same: expected different training images, "
            "check the data and its preprocessing"
        )


@dataclass(eq=False)
class _Tally:
    """Sums over the rows of one input, for the consumers that read it alike."""

    geometry: Geometry
    sources: tuple[fx.Node, ...]
    calls: tuple[fx.Node, ...]
    consumers: list[Consumer]
    blocks: list[torch.Tensor]
    rows: int = 0
    second: list[torch.Tensor] = field(default_factory=list)
    total: list[torch.Tensor] = field(default_factory=list)

    @property
    def width(self) -> int:
        """c: columns of a convolution group."""
        one = self.consumers[0]
        return len(one.group) // self.geometry.groups * self.geometry.taps

    @property
    def held_bytes(self) -> int:
        return 8 * self.geometry.groups * sum(len(block) ** 2 for block in self.blocks)

    def add(self, x: torch.Tensor, rows: torch.Tensor | None) -> None:
        x = x if x.dtype == torch.float64 else x.float()
        for chunk in patches(self.geometry, x, rows):
            self.rows += chunk.shape[1]
            for i, block in enumerate(self.blocks):
                some = chunk if len(self.blocks) == 1 else chunk[:, :, block.to(x.device)]
                second = (some.transpose(1, 2) @ some).double()
                total = some.sum(1, dtype=torch.float64)
                if i < len(self.second):
                    self.second[i] += second
                    self.total[i] += total
                else:
                    self.second.append(second)
                    self.total.append(total)

    def parts(self) -> tuple[Part, ...]:
        n = max(self.rows, 1)
        made = tuple(
            Part(block.to(second.device), second / n, total / n)
            for block, second, total in zip(self.blocks, self.second, self.total, strict=True)
        )
        if not all(bool(part.second.isfinite().all()) for part in made):
            raise ModelError(
                f"the activations that {self.consumers[0].name} reads are not finite: "
                "check the checkpoint and the data"
            )
        return made


@dataclass(eq=False)
class _Gathered:
    """The sum of S of one product over the batches; None before the first."""

    product: Product
    total: torch.Tensor | None = None

    def add(self, left: torch.Tensor, right: torch.Tensor) -> None:
        left, right = (x if x.dtype == torch.float64 else x.float() for x in (left, right))
        here = squared(self.product, left, right)
        self.total = here if self.total is None else self.total + here


def _by_group(gathered: Iterable[_Gathered], images: int) -> dict[int, torch.Tensor]:
    """``[C, C]`` for each group, summed over its products and heads, an image."""
    found: dict[int, torch.Tensor] = {}
    for one in gathered:
        if one.total is None:
            continue
        channel = torch.from_numpy(one.product.channel).reshape(-1, one.product.channel.shape[-1])
        size = int(channel.max()) + 1
        blocks = one.total.cpu().reshape(len(channel), *one.total.shape[-2:])
        sums = found.get(one.product.group, torch.zeros(0, 0, dtype=torch.float64))
        if len(sums) < size:
            sums = functional.pad(sums, (0, size - len(sums)) * 2)
        for places, block in zip(channel, blocks, strict=True):
            rows, columns = torch.meshgrid(places, places, indexing="ij")
            sums.index_put_((rows, columns), block / max(images, 1), accumulate=True)
        found[one.product.group] = sums
    return found


def _tallies(consumers: Sequence[Consumer]) -> dict[Any, _Tally]:
    tallies: dict[Any, _Tally] = {}
    for consumer in consumers:
        key = (consumer.sources, consumer.geometry)
        if key not in tallies:
            tally = _Tally(consumer.geometry, consumer.sources, consumer.calls, [], [])
            tallies[key] = tally
        tallies[key].consumers.append(consumer)
    for tally in tallies.values():
        tally.blocks = [torch.arange(tally.width)]
    return tallies


class _Collector(Watcher):
    """Runs the eval forward and shows every tally the inputs of its operations."""

    def __init__(
        self,
        graph: Graph,
        tallies: Iterable[_Tally],
        gathered: Iterable[_Gathered],
        images: int,
        rows_per_column: int,
        seed: int,
    ) -> None:
        super().__init__(graph)
        self._images = images
        self._rows_per_column = rows_per_column
        self._draw = torch.Generator().manual_seed(seed)
        self._at: dict[fx.Node, list[tuple[_Tally, fx.Node]]] = {}
        for tally in tallies:
            for call, source in zip(tally.calls, tally.sources, strict=True):
                self._at.setdefault(call, []).append((tally, source))
        self._products = {one.product.node: one for one in gathered}
        self._batch = 1

    def run(self, *inputs: Any, **options: Any) -> Any:
        self._batch = max(len(inputs[0]), 1)
        return super().run(*inputs, **options)

    def run_node(self, n: fx.Node) -> Any:
        for tally, source in self._at.get(n, ()):  # before the call, which may work in place
            x = self.env[source]
            tally.add(x, self._rows(tally, x))
        product = self._products.get(n)
        if product is not None:
            product.add(self.env[product.product.left], self.env[product.product.right])
        return super().run_node(n)

    def _rows(self, tally: _Tally, x: torch.Tensor) -> torch.Tensor | None:
        """The rows of this call that count, drawn so that all images have an equal share."""
        here = count_rows(tally.geometry, x.shape)
        expected = here * self._images / self._batch * len(tally.calls)
        most = max(FEWEST_ROWS, self._rows_per_column * tally.width)
        if expected <= most:
            return None
        count = min(here, math.ceil(here * most / expected))
        return torch.randperm(here, generator=self._draw)[:count].to(x.device)


def _fit_into(tallies: list[_Tally], limit: int) -> list[str]:
    """Split the widest inputs until all fit; what was split, in words."""
    split: dict[str, None] = {}
    while sum(tally.held_bytes for tally in tallies) > limit:
        widest = max(tallies, key=lambda tally: tally.held_bytes)
        if max(len(block) for block in widest.blocks) < 2:
            break
        whole = len(widest.blocks) == 1
        apart = _by_position(widest) if whole else []
        widest.blocks = apart if len(apart) > 1 else _halved(widest.blocks)
        split[widest.consumers[0].name] = None
    if not split:
        return []
    return [
        f"the moments of {', '.join(split)} take more than {limit / 2**30:.3g} GiB in full: "
        "they are kept in blocks, and channels make up for others of their block only"
    ]


def _by_position(tally: _Tally) -> list[torch.Tensor]:
    """One block for each kernel position (or place of a flattened channel), of all channels."""
    geometry, one = tally.geometry, tally.consumers[0]
    width = tally.width
    owner = np.stack([one.group, one.channel], 1)[: len(one.group) // geometry.groups]
    owner[owner[:, 0] < 0, 1] = np.flatnonzero(owner[:, 0] < 0)
    owner = np.repeat(owner, geometry.taps, axis=0)
    place = _occurrence(owner)
    return [torch.from_numpy(np.flatnonzero(place == p)) for p in range(int(place.max()) + 1)] or [
        torch.arange(width)
    ]


def _occurrence(owner: IntArray) -> IntArray:
    """For each row, how many equal rows come before it."""
    _, key = np.unique(owner, axis=0, return_inverse=True)
    key = key.ravel()
    order = np.argsort(key, kind="stable")
    first = np.searchsorted(key[order], key[order])
    place = np.empty(len(key), dtype=np.int64)
    place[order] = np.arange(len(key)) - first
    return place


def _halved(blocks: list[torch.Tensor]) -> list[torch.Tensor]:
    return [half for block in blocks for half in block.chunk(2)]


def _few_rows(tallies: Iterable[_Tally], images: int) -> list[str]:
    few = [tally for tally in tallies if tally.rows < tally.width]
    if not few:
        return []
    worst = max(few, key=lambda tally: tally.width / max(tally.rows, 1))
    return [
        f"{images:,} calibration images give {worst.consumers[0].name} {worst.rows:,} rows for "
        f"{worst.width:,} inputs ({len(few)} such layer{'s' * (len(few) > 1)}): "
        "the fit leans on its ridge there, more images would help"
    ]


def _digest(batches: Iterable[Sequence[torch.Tensor]]) -> str:
    total = hashlib.sha256()
    for x in (x for batch in batches for x in batch):
        total.update(f"{x.dtype} {list(x.shape[1:])}".encode())
        total.update(x.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()[:16]
