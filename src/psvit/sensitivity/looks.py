"""A look: what one removal does to a batch of images. A point is made of one look or several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from psvit.sensitivity.effect import Sums

UNPRUNED = -1
"""In place of a tie: what the unpruned model does with a batch."""


@dataclass(frozen=True)
class Look:
    """What the removal of ``removed`` channels a cell of a tie does to a batch.

    ``kl``: divergence of each image, in nats. ``right``: which images are classified correctly,
    None without labels. ``activity``: what the neuron layers that ran took in and fired.
    """

    tie: int
    removed: int
    batch: int
    kl: tuple[float, ...]
    right: tuple[bool, ...] | None
    activity: Sums


def look_to(look: Look) -> dict[str, Any]:
    """A look as JSON data."""
    right = None if look.right is None else "".join("01"[one] for one in look.right)
    activity = {name: list(sums) for name, sums in look.activity.items()}
    return {**vars(look), "kl": list(look.kl), "right": right, "activity": activity}


def look_from(data: Mapping[str, Any]) -> Look:
    """A look from JSON data. Raises ValueError, KeyError or TypeError if it is none."""
    names = {f.name for f in fields(Look)}
    if set(data) != names:
        raise ValueError(f"expected the fields {', '.join(sorted(names))}")
    for name in ("tie", "removed", "batch"):
        if type(data[name]) is not int:
            raise ValueError(f"{name} is {data[name]!r}, expected a whole number")
    kl, right = data["kl"], data["right"]
    if not isinstance(kl, list) or not all(type(value) in (int, float) for value in kl):
        raise ValueError("kl is no list of numbers")
    if right is not None and (len(right) != len(kl) or set(right) - {"0", "1"}):
        raise ValueError("right does not say 0 or 1 for each image")
    activity = {
        str(name): (float(taken), int(fired), int(count))
        for name, (taken, fired, count) in data["activity"].items()
    }
    return Look(
        **{key: data[key] for key in ("tie", "removed", "batch")},
        kl=tuple(kl),
        right=None if right is None else tuple(one == "1" for one in right),
        activity=activity,
    )
