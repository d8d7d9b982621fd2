"""Synaptic operations (SOPs) of one image over all T steps, measured, and after any removal.

Convention. An operation with a spike tensor among its inputs (``psvit.cost.spikes``) accumulates
once for each spike and each output that the spike reaches; with two spike tensors once for each
pair that meets. Exact: positions at a border reach fewer outputs, strides skip positions. All
other operations stay MACs, the first convolution of an image among them.

Rate x MACs, as papers estimate SOPs, is what this comes to where every input reaches equally many
outputs: in linear layers and 1x1 convolutions.

A removal is priced without running the model: spikes of the channels that stay, times the outputs
that stay. That is what the rewritten model shows if the kept channels fire as before; upstream of
the removal they do. The true figure of a pruned model is measured on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from psvit.cost.rates import Rates
from psvit.cost.sides import Part
from psvit.cost.tensors import Shape
from psvit.cost.terms import BoolArray, Key, Term


@dataclass(frozen=True, eq=False)
class Spikes:
    """What was counted for one spike-driven term over all images.

    ``sums``: see ``Term.count``. ``worth``: what one accumulate adds to them, times the images.
    ``estimated``: channels cannot be told apart, so a removal scales it by the MACs.
    """

    term: Term
    key: Key
    sums: NDArray[np.float64]
    worth: float
    estimated: bool = False


@dataclass(frozen=True, eq=False)
class Counted:
    """A part of an operation under its name. ``spikes`` None: real-valued."""

    name: str
    part: Part
    macs_dense: float
    spikes: Spikes | None

    def sops(self, shapes: Mapping[str, Shape], dead: BoolArray | None) -> float:
        """Accumulates of one image; 0 if real-valued."""
        if self.spikes is None:
            return 0.0
        s = self.spikes
        left = s.term.price(s.key, s.sums, None if s.estimated else dead) / s.worth
        if s.estimated and dead is not None and self.macs_dense:
            left *= macs_of(self.part, shapes, dead) / self.macs_dense
        return left

    def macs(self, shapes: Mapping[str, Shape], dead: BoolArray | None) -> float:
        """Multiply-accumulates of one image; 0 if spike-driven."""
        return 0.0 if self.spikes is not None else macs_of(self.part, shapes, dead)


@dataclass(frozen=True, eq=False)
class Activity:
    """What a graph was observed to do: its rates, and what removals are priced by."""

    rates: Rates
    counted: tuple[Counted, ...]

    def sops(self, shapes: Mapping[str, Shape], dead: BoolArray | None) -> float:
        """Accumulates of one image with parameters of ``shapes`` and without ``dead`` lanes."""
        return sum(one.sops(shapes, dead) for one in self.counted)

    def macs(self, shapes: Mapping[str, Shape], dead: BoolArray | None) -> float:
        """Multiply-accumulates of one image in real-valued operations, priced alike."""
        return sum(one.macs(shapes, dead) for one in self.counted)


def macs_of(part: Part, shapes: Mapping[str, Shape], dead: BoolArray | None) -> float:
    """Dense MACs of one image in a part of an operation."""
    return part.operation.count(shapes, dead) / part.operation.images
