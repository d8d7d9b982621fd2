"""What an operation sums, as a product of two tensors over named axes, and which of it is spikes.

Every operation that costs MACs sums products of two sides: ``out = sum a[..] * b[..]``. Letters
(small numbers, as in the sublist form of ``torch.einsum``) name the axes. With magnitudes in units
of one spike the accumulates that spikes trigger are, for

- spikes times weights or real values:  the spikes, each times its fan-out;
- spikes times spikes:                  the pairs of spikes that meet, both not 0.

Those sums are kept apart along the axes that hold channels, so that any removal can be priced
afterwards without running the model again.

G groups of a convolution, I inputs and O outputs of one, M rows, K summed axis, N columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import lcm

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from psvit.cost.tensors import Shape
from psvit.records import Field, IntArray

Letters = tuple[int, ...]
Key = tuple[int, ...]
"""The sides whose spikes a sum counts: (0,), (1,), or (0, 1) for spikes that meet."""
Sums = dict[Key, NDArray[np.float64]]
BoolArray = NDArray[np.bool_]

M, K, N, G, I, O = range(6)  # noqa: E741  the letters of the legend above
LEADING = 6
"""Axes in front (T, B, heads) are LEADING, LEADING + 1, ..., counted from the right."""
_OUTER = 26
"""Added to the letter of an axis for the repetitions of a pattern of channels along it."""


class UnalignedError(Exception):
    """An axis of this batch is no multiple of the pattern of channels along it."""


def leading(count: int, gap: int = 0) -> Letters:
    """Letters of ``count`` axes that align from the right."""
    return tuple(LEADING + gap + i for i in reversed(range(count)))


def magnitudes(x: torch.Tensor) -> torch.Tensor:
    """``|x|`` as floating-point numbers that hold counts exactly."""
    x = x if x.dtype in (torch.float32, torch.float64) else x.float()
    return x.abs()


@dataclass(frozen=True, eq=False)
class Side:
    """One factor. ``node``: where its tensor comes from; None for a layer's own weight.

    ``letters`` name the axes after ``read`` brought the tensor into shape, and ``layout`` does the
    same to its sizes. ``spiking`` is False for what cannot be spikes: parameters, and constants.
    ``lanes`` broadcast over the letters; an element goes with any of its lanes.
    """

    letters: Letters
    node: fx.Node | None = None
    sizes: Shape = ()
    spiking: bool = False
    lanes: tuple[IntArray, ...] = ()
    read: Callable[[torch.Tensor], torch.Tensor] = magnitudes
    layout: Callable[[Shape], Shape] = tuple

    @property
    def varying(self) -> frozenset[int]:
        """Letters along which the lanes differ."""
        return frozenset(
            letter
            for lanes in self.lanes
            for letter, size in zip(self.letters, lanes.shape, strict=True)
            if size > 1
        )


@dataclass(frozen=True, eq=False)
class Term:
    """Two sides and the letters to keep apart. Made by ``make_term``, which cuts patterns short."""

    sides: tuple[Side, Side]
    kept: Letters = ()
    periods: Mapping[int, int] = field(default_factory=dict)

    def coarse(self) -> Term:
        """The same without keeping channels apart."""
        return Term(self.sides)

    def count(self, tensors: Sequence[torch.Tensor | None], live: frozenset[int]) -> Sums:
        """Sums of one batch, for every way in which the ``live`` sides may be spikes.

        ``tensors``: of the sides with a node. Magnitudes are not yet divided by the worth of a
        spike. Raises UnalignedError; then only the ``coarse`` term can count.
        """
        full: dict[int, int] = {}
        for side, x in zip(self.sides, tensors, strict=True):
            sizes = side.sizes if x is None else side.layout(tuple(x.shape))
            for letter, size in zip(side.letters, sizes, strict=True):
                full[letter] = max(full.get(letter, 1), size)
        for letter, period in self.periods.items():
            if full[letter] % period:
                raise UnalignedError
        read = {}
        for index in live:
            side, x = self.sides[index], tensors[index]
            assert x is not None  # live sides have a node
            read[index] = self._cut(side.read(x), side.letters, full)
        keys: list[Key] = [(index,) for index in sorted(live)]
        if len(live) == 2:
            keys.append((0, 1))
        return {key: self._sum([read[index] for index in key], full) for key in keys}

    def _cut(
        self, x: torch.Tensor, letters: Letters, full: Mapping[int, int]
    ) -> tuple[torch.Tensor, Letters]:
        """``x`` at its full sizes, with kept axes cut into repetitions and pattern."""
        x = x.expand([full[letter] for letter in letters])
        out: list[int] = []
        for letter in letters:
            period = self.periods.get(letter)
            if period is not None:
                axis = len(out)
                x = x.reshape(*x.shape[:axis], -1, period, *x.shape[axis + 1 :])
                out.append(letter + _OUTER)
            out.append(letter)
        return x, tuple(out)

    def _sum(
        self, operands: list[tuple[torch.Tensor, Letters]], full: Mapping[int, int]
    ) -> NDArray[np.float64]:
        involved = {letter for _, letters in operands for letter in letters}
        out = [letter for letter in self.kept if letter in involved]
        if len(operands) == 1:
            total = _reduced(*operands[0], set(out))[0]
            order = [letter for letter in operands[0][1] if letter in out]
            total = total.permute([order.index(letter) for letter in out])
        else:
            (a, left), (b, right) = operands
            a, left = _reduced(a, left, set(out) | set(right))
            b, right = _reduced(b, right, set(out) | set(left))
            total = torch.einsum(a, list(left), b, list(right), out)
        rest = 1
        for letter, size in full.items():
            if letter not in involved:
                # a kept axis is counted when it is priced, its repetitions now
                rest *= size // self.periods.get(letter, 1)
        return np.asarray(total.double().cpu().numpy() * rest)

    def price(self, key: Key, sums: NDArray[np.float64], dead: BoolArray | None) -> float:
        """What is left of a sum without the dead lanes."""
        involved = {letter for index in key for letter in self.sides[index].letters}
        operands: list[object] = [sums, [letter for letter in self.kept if letter in involved]]
        for side in self.sides:
            letters = [letter for letter in self.kept if letter in side.letters]
            if letters:
                operands += [self._alive(side, letters, dead), letters]
        return float(np.einsum(*operands, []))  # type: ignore[call-overload]

    def _alive(self, side: Side, letters: list[int], dead: BoolArray | None) -> NDArray[np.float64]:
        alive = np.ones([self.periods[letter] for letter in letters], dtype=bool)
        for lanes in side.lanes if dead is not None else ():
            order = [side.letters.index(letter) for letter in letters]
            rest = [axis for axis in range(lanes.ndim) if axis not in order]
            one = lanes.transpose([*order, *rest]).reshape([lanes.shape[axis] for axis in order])
            alive = alive & ~dead[one]  # type: ignore[index]
        return alive.astype(np.float64)


def make_term(a: Side, b: Side) -> Term:
    """The term of two sides, with the axes on which channels lie, each by its shortest pattern."""
    kept = sorted(a.varying | b.varying)
    periods = {
        letter: lcm(*(_period(side, letter) for side in (a, b) if letter in side.letters))
        for letter in kept
    }
    sides = (_trimmed(a, periods), _trimmed(b, periods))
    return Term(sides, tuple(kept), periods)


def field_lanes(fields: Sequence[Field]) -> tuple[IntArray, ...]:
    """The lanes of a tensor's fields that differ anywhere."""
    return tuple(one.lanes for one in fields if one.varying)


def _reduced(x: torch.Tensor, letters: Letters, keep: set[int]) -> tuple[torch.Tensor, Letters]:
    """``x`` in float64, summed over the letters that are not to be kept."""
    axes = [axis for axis, letter in enumerate(letters) if letter not in keep]
    left = tuple(letter for letter in letters if letter in keep)
    return (x.sum(axes, dtype=torch.float64) if axes else x.double()), left


def _period(side: Side, letter: int) -> int:
    """The length of the shortest pattern of lanes that repeats along an axis."""
    axis, length = side.letters.index(letter), 1
    for lanes in side.lanes:
        size = lanes.shape[axis]
        for period in (p for p in range(1, size + 1) if size % p == 0):
            blocks = lanes.reshape(
                *lanes.shape[:axis], size // period, period, *lanes.shape[axis + 1 :]
            )
            if (blocks == blocks.take([0], axis)).all():
                length = lcm(length, period)
                break
    return length


def _trimmed(side: Side, periods: Mapping[int, int]) -> Side:
    """``side`` with its lanes cut to one pattern on each axis."""
    trimmed = []
    for lanes in side.lanes:
        for axis, letter in enumerate(side.letters):
            if lanes.shape[axis] > 1:
                lanes = lanes.take(range(periods[letter]), axis)
        trimmed.append(lanes)
    return Side(
        side.letters, side.node, side.sizes, side.spiking, tuple(trimmed), side.read, side.layout
    )
