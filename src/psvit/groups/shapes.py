"""The size of a tensor after channels are removed, read off its labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psvit.errors import PlanError
from psvit.groups.fields import is_scrambled
from psvit.records import Field, IntArray, Labels

BoolArray = NDArray[np.bool_]


def dead_lanes(labels: Labels, channels: Iterable[int]) -> BoolArray:
    """Which lanes go when ``channels`` (ids as in ``Group.channels``) go; a block with its last."""
    ids = np.fromiter(channels, dtype=np.int64)
    dead: BoolArray = np.isin(labels.channel_of, ids)
    for block, members in labels.members.items():
        dead[block] = bool(dead[list(members)].all())
    return dead


def kept_shape(fields: Sequence[Field], shape: tuple[int, ...], dead: BoolArray) -> tuple[int, ...]:
    """Sizes of a tensor of ``shape`` after its dead lanes are gone.

    Raises PlanError if what is left is no rectangle (heads of different widths, say).
    """
    out = list(shape)
    fields = [f for f in fields if dead[f.lanes].any()]
    for cluster in _overlapping(fields):
        mask: BoolArray = ~dead[cluster[0].lanes]
        for field in cluster[1:]:
            mask = mask & ~dead[field.lanes]
        if len(cluster) == 1 and is_scrambled(cluster[0]):
            out = _scaled(cluster[0], mask, out)
            continue
        for axis, size in enumerate(_rectangle(mask)):
            if mask.shape[axis] > 1:
                out[axis] = size
    return tuple(out)


def check_rectangles(labels: Labels, removed: Iterable[int]) -> None:
    """Raises PlanError if some tensor of a forward would be left without a shape."""
    dead = dead_lanes(labels, removed)
    for fields in labels.rectangles:
        sizes = zip(*(f.lanes.shape for f in fields), strict=True)
        kept_shape(fields, tuple(max(s) for s in sizes), dead)


def rectangles(fields: Iterable[Any], channel_of: IntArray) -> tuple[tuple[Field, ...], ...]:
    """The distinct sets of fields with slices among the fields of all nodes."""
    found: dict[tuple[tuple[tuple[int, ...], bytes], ...], tuple[Field, ...]] = {}
    for of_node in fields:
        lists = [of_node] if not of_node or not isinstance(of_node[0], list) else of_node
        for one in lists:
            sliced = tuple(f for f in one if len(f.varying) > 1)
            if sliced:
                key = tuple((f.lanes.shape, channel_of[f.lanes].tobytes()) for f in sliced)
                found.setdefault(key, sliced)
    return tuple(found.values())


def _overlapping(fields: Sequence[Field]) -> list[list[Field]]:
    """Fields that share axes, together."""
    clusters: list[list[Field]] = []
    for field in fields:
        touching = [c for c in clusters if any(f.varying & field.varying for f in c)]
        clusters = [c for c in clusters if c not in touching]
        clusters.append([f for c in touching for f in c] + [field])
    return clusters


def _rectangle(mask: BoolArray) -> list[int]:
    sizes: list[int] = []
    for _ in range(mask.ndim):
        counts = mask.sum(axis=-1)
        kept = np.unique(counts[counts > 0])
        if len(kept) > 1:
            raise PlanError(
                f"the plan keeps {kept.tolist()} channels in slices that must stay equally wide: "
                "keep the same number in every head or group"
            )
        sizes.append(int(kept[0]) if len(kept) else 0)
        mask = np.asarray(mask.any(axis=-1))
    return sizes[::-1]


def _scaled(field: Field, mask: BoolArray, shape: list[int]) -> list[int]:
    """Where axes are folded into one another only the number of elements matters."""
    kept, total = int(mask.sum()), mask.size
    channels = len(np.unique(field.lanes))
    axes = sorted(field.varying, key=lambda d: (shape[d] != channels, d))
    for axis in axes:
        if shape[axis] * kept % total == 0:
            shape[axis] = shape[axis] * kept // total
            return shape
    raise PlanError("the plan keeps a number of channels that a view of the model cannot hold")
