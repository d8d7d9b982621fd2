"""The size of a tensor after channels are removed, read off its labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from psvit.errors import PlanError
from psvit.groups.fields import is_scrambled
from psvit.records import Field, Labels

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
    for fields in labels.fields.values():
        for found in fields.values():
            lists = [found] if not found or not isinstance(found[0], list) else found
            for one in lists:
                touched = [f for f in one if len(f.varying) > 1 and dead[f.lanes].any()]
                if touched:
                    sizes = zip(*(f.lanes.shape for f in touched), strict=True)
                    kept_shape(touched, tuple(max(s) for s in sizes), dead)


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
