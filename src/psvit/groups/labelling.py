"""What is known while labels spread through a graph, and how facts are added to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from psvit.groups.fields import axis_field, is_scrambled, rows_of
from psvit.groups.lanes import Lanes
from psvit.groups.rest import Rest, nothing, one_of
from psvit.records import Dim, Field, IntArray, Mode

Fields = list[Field]


@dataclass
class Labelling:
    """The state of one propagation. Rules read fields of operands and add facts here.

    ``constants``: the values of nodes of a few elements. ``aliases``: further names of tensors
    that are held under several. ``slots``: the lanes of each axis of each tensor. ``rows``:
    matrices of lanes whose rows must keep equally many; ``sliced``: those whose rows are slices
    of a tensor. ``slices``: pairs of lists of lane sets, the i-th of one being removed with the
    i-th of the other (heads). ``pinned``: slices of which one lane at least has to stay.
    ``follows``: lanes that go with their head only. ``tags``: what operations say about the role
    of lanes. ``probed``: what trying out a module has shown.
    """

    module: nn.Module
    lanes: Lanes = field(default_factory=Lanes)
    slots: dict[tuple[str, Dim], IntArray] = field(default_factory=dict)
    fields: dict[Mode, dict[str, Any]] = field(default_factory=dict)
    constants: dict[str, torch.Tensor] = field(default_factory=dict)
    rows: list[IntArray] = field(default_factory=list)
    slices: list[tuple[list[IntArray], list[IntArray]]] = field(default_factory=list)
    pinned: list[IntArray] = field(default_factory=list)
    follows: list[IntArray] = field(default_factory=list)
    sliced: list[IntArray] = field(default_factory=list)
    members: dict[int, tuple[int, ...]] = field(default_factory=dict)
    tags: list[tuple[IntArray, str]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    divisors: set[str] = field(default_factory=set)
    mode: Mode = "eval"
    aliases: dict[str, str] = field(default_factory=dict)
    probed: dict[Any, Any] = field(default_factory=dict)
    _blocks: dict[tuple[int, ...], int] = field(default_factory=dict)

    # -- reading

    def of(self, value: Any) -> Fields:
        """The fields of a node; none for anything else, or where the node has several outputs."""
        if not isinstance(value, fx.Node):
            return []
        found = self.fields[self.mode].get(value.name) or []
        return found if all(isinstance(f, Field) for f in found) else []

    def known(self, node: fx.Node) -> Rest:
        """The values of a node of a few elements, if these are known."""
        tensor = self.constants.get(node.name)
        return None if tensor is None else one_of(tensor.double().flatten().tolist())

    # -- adding facts

    def bind(self, tensor: str, dim: Dim, lanes: IntArray) -> None:
        """The channels of ``lanes`` occupy this axis of this tensor."""
        key = (self.aliases.get(tensor, tensor), dim)
        if key in self.slots:
            self.lanes.unite(self.slots[key], lanes)
        else:
            self.slots[key] = lanes.copy()

    def axis_lanes(self, tensor: str, dim: Dim, size: int) -> IntArray:
        """The lanes of an axis of a tensor, new ones if it has not been met yet."""
        key = (self.aliases.get(tensor, tensor), dim)
        if key not in self.slots:
            self.slots[key] = self.lanes.fresh(size)
        return self.slots[key]

    def lock(self, fields: Iterable[Field], reason: str, axes: Iterable[int] | None = None) -> None:
        """Lock the channels of fields, or of those that vary on one of ``axes``."""
        wanted = None if axes is None else set(axes)
        for f in fields:
            if wanted is None or f.varying & wanted:
                self.lanes.lock(self.channel_lanes(f.lanes) if f.block else f.lanes, reason)

    def channel_lanes(self, blocks: IntArray) -> IntArray:
        """The lanes of which blocks consist."""
        lanes = [self.members[b] for b in np.unique(blocks).tolist()]
        return np.array(sorted({lane for group in lanes for lane in group}), dtype=np.int64)

    def unite_across(self, f: Field, axis: int) -> None:
        """Make every slice on ``axis`` keep the same channels."""
        if not f.block:
            self.lanes.unite(f.lanes, np.take(f.lanes, [0], axis=axis))

    def unite_slices(self, f: Field) -> None:
        """Make all slices of a field keep the same channels along its thinned axis."""
        for axis in f.varying - {f.along}:
            self.unite_across(f, axis)

    def require_rectangle(self, fields: Iterable[Field]) -> None:
        """An operation looks at the axes: every slice must keep equally many channels."""
        for f in fields:
            if len(f.varying) > 1 and not f.block and not is_scrambled(f):
                self.rows.append(rows_of(f))
                self.sliced.append(rows_of(f))

    def pin(self, f: Field, axis: int, reason: str) -> None:
        """An operation counts on the size of ``axis``: thin inside slices, remove none whole."""
        if f.block:
            self.pinned += [
                self.channel_lanes(np.take(f.lanes, [i], axis=axis))
                for i in range(f.lanes.shape[axis])
            ]
        elif axis == f.along:
            self.lanes.lock(f.lanes, reason)
        else:
            self.pinned += [
                np.take(f.lanes, [i], axis=axis).ravel() for i in range(f.lanes.shape[axis])
            ]

    def link(self, f: Field, g: Field, axes: Sequence[int]) -> None:
        """Slices of f and g with the same indices on ``axes`` can only go together."""
        for x in (f, g):
            if not x.block and x.along in axes:
                if len(x.varying) > 1:
                    self.lanes.lock(x.lanes, "its heads are laid out in two different ways")
                    return
                self.follows.append(x.lanes.ravel())
        self.slices.append((self._slices(f, axes), self._slices(g, axes)))

    def _slices(self, f: Field, axes: Sequence[int]) -> list[IntArray]:
        moved = np.moveaxis(f.lanes, list(axes), range(len(axes)))
        flat = moved.reshape(int(np.prod(moved.shape[: len(axes)])), -1)
        return [self.channel_lanes(s) if f.block else np.unique(s) for s in flat]

    # -- reductions

    def reduced(self, f: Field, axes: Iterable[int], reason: str, *, exact: bool) -> Field | None:
        """What is left of a field when its tensor is reduced over ``axes`` (they keep size 1).

        ``exact``: the reduction ignores zeros (a sum), so removed channels drop out of it.
        """
        hit = f.varying & set(axes)
        if not hit:
            return f
        if is_scrambled(f):
            self.lock([f], f"{reason} over channels that a view has mixed with tokens")
            return None
        rest = f.varying - hit
        if f.along in hit or f.block:
            if not exact:
                self.lock([f], f"{reason} over channels depends on every channel")
            elif f.rest != 0.0:
                self.lock([f], f"{reason} over channels that are not 0 when removed")
            return self._block(f, rest) if rest else None
        for axis in hit:  # only slices are summed: each must line up with the others
            self.unite_across(f, axis)
        lanes = f.lanes
        for axis in hit:
            lanes = np.take(lanes, [0], axis=axis)
        return replace(f, lanes=lanes, rest=nothing(f.rest))

    def _block(self, f: Field, rest: frozenset[int]) -> Field:
        """Whole slices as units: what survives of a field of which the thinned axis is summed."""
        order = sorted(rest)
        moved = np.moveaxis(f.lanes, order, range(len(order)))
        flat = moved.reshape(int(np.prod(moved.shape[: len(order)])), -1)
        ids = []
        for row in flat:
            lanes = self.channel_lanes(row) if f.block else row
            key = tuple(np.unique(self.lanes.roots(lanes)).tolist())
            if key not in self._blocks:
                block = int(self.lanes.fresh(1)[0])
                self._blocks[key] = block
                self.members[block] = key
            ids.append(self._blocks[key])
        shape = [f.lanes.shape[d] if d in rest else 1 for d in range(f.lanes.ndim)]
        return Field(
            np.array(ids, dtype=np.int64).reshape(shape), order[-1], nothing(f.rest), block=True
        )

    # -- tensors without a history

    def parameter_fields(self, name: str, shape: Sequence[int]) -> Fields:
        """One field for each axis of a parameter, buffer or constant."""
        rest = None if name in self.divisors else 0.0  # the reference leaves divisors as they are
        return [
            axis_field(self.axis_lanes(name, d, size), d, len(shape), rest=rest)
            for d, size in enumerate(shape)
            if size > 1
        ]

    def new_fields(self, shape: Sequence[int], axes: Iterable[int], rest: Rest) -> Fields:
        """Fields of a tensor that the forward makes: its elements are all alike."""
        return [
            axis_field(self.lanes.fresh(shape[d]), d, len(shape), rest=rest)
            for d in axes
            if shape[d] > 1
        ]
