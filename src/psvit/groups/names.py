"""Names and roles of groups, for people to read. Nothing depends on them for correctness."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import nn

from psvit.records import Slot


def producers(slots: Sequence[Slot]) -> list[str]:
    """The layers whose filters make these channels."""
    names = []
    normalised = {
        s.tensor.removesuffix(".running_mean") for s in slots if "running_mean" in s.tensor
    }
    for slot in slots:
        layer, _, kind = slot.tensor.rpartition(".")
        if kind == "weight" and slot.dim == 0 and layer not in normalised:
            names.append(layer)
    return names


def name_of(slots: Sequence[Slot]) -> str:
    """The first layer that makes the channels, with the number of the others."""
    made_by = producers(slots)
    if not made_by:
        return f"{slots[0].tensor}[{slots[0].dim}]"
    return made_by[0] if len(made_by) == 1 else f"{made_by[0]} (+{len(made_by) - 1})"


def role_of(slots: Sequence[Slot], tags: Collection[str], module: nn.Module) -> str:
    """What the channels seem to be for: qk, v, residual stream, hidden."""
    made_by = producers(slots)
    readers = [s for s in slots if s.dim in (1, "in")]
    if "contracted" in tags and not readers:
        return "qk"
    if len(made_by) > 2:
        return "residual stream"
    if "attended" in tags and len(made_by) == 1:
        return "v"
    return "hidden"
