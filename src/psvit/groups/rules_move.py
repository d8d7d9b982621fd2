"""Rules for operations that only move elements: views, pieces, permutations, copies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from psvit.groups.align import aligned
from psvit.groups.call import Call, Shape, shape_of
from psvit.groups.fields import (
    axis_field,
    is_scrambled,
    lifted,
    merges_out_of_order,
    moved,
    reshaped,
)
from psvit.groups.labelling import Fields, Labelling
from psvit.groups.rest import agreed, one_of
from psvit.records import Field


def identity(call: Call) -> Fields:
    """The same elements: contiguous, clone, detach, to."""
    return call.fields(call.args[0])


def reshape(call: Call) -> Fields:
    """Any reshape keeps row-major order, so labels go through whatever it splits or merges."""
    state, old = call.state, shape_of(call.args[0])
    if any(isinstance(a, torch.dtype) for a in call.args):
        state.lock(call.fields(call.args[0]), "its memory is read as another type")
        return []
    out = []
    for f in call.fields(call.args[0]):
        if merges_out_of_order(f, old, call.shape) and not is_scrambled(f):
            state.unite_slices(f)
        new = reshaped(f, old, call.shape)
        if new is not None:
            state.require_rectangle([new])
            out.append(new)
    return out


def permute(call: Call) -> Fields:
    """A permutation of axes needs the kept elements of a tensor to form a rectangle."""
    fields = []
    for f in call.fields(call.args[0]):
        if is_scrambled(f):
            call.state.lock([f], "a view mixes it with tokens before its axes are permuted")
        else:
            fields.append(f)
    call.state.require_rectangle(fields)
    return _each(call, fields, shape_of(call.args[0]), _on_first(call))


def getattr_view(call: Call) -> Any:
    """``x.T``, ``x.mT``; other attributes are the tensor itself (``x.data``, ``x.real``)."""
    if call.args[1] in ("T", "mT", "H", "mH"):
        return permute(call)
    return call.fields(call.args[0])


def split(call: Call) -> list[Fields]:
    """Pieces along an axis; the sizes of the pieces are adapted when channels go."""
    parts = call.parts or []
    out: list[Fields] = [[] for _ in parts]
    call.state.require_rectangle(call.fields(call.args[0]))
    for f in call.fields(call.args[0]):
        for i, piece in enumerate(moved(f, shape_of(call.args[0]), _on_first(call))):
            if piece is not None:
                out[i].append(piece)
    return out


def unbind(call: Call) -> list[Fields]:
    """One tensor for each index of an axis: their number is fixed."""
    axis = call.get(1, "dim", 0) % len(shape_of(call.args[0]))
    _pin_axis(call, axis)
    return split(call)


def _pin_axis(call: Call, axis: int) -> None:
    for f in call.fields(call.args[0]):
        if axis in f.varying:
            call.state.pin(f, axis, "an axis that the forward takes apart index by index")


def narrow(call: Call) -> Fields:
    """A range of an axis; where it starts and ends is adapted when channels go."""
    return _each(call, call.fields(call.args[0]), shape_of(call.args[0]), _on_first(call))


def expand(call: Call) -> Fields:
    """Broadcasting to a larger shape. A new axis is all alike, so any part of it may go."""
    return _stretched(call, lambda t: t.expand(call.shape))


def repeat(call: Call) -> Fields:
    """Copies: each copy of a channel is tied to it."""
    return _stretched(call, lambda t: call.replayed({call.args[0]: t}))


def _stretched(call: Call, function: Callable[[torch.Tensor], Any]) -> Fields:
    state, rank = call.state, len(call.shape)
    shape = (1,) * (rank - len(shape_of(call.args[0]))) + shape_of(call.args[0])
    interleaved = call.name == "repeat_interleave"
    out = []
    for f in call.fields(call.args[0]):
        f = f if interleaved else lifted(f, shape_of(call.args[0]), rank)[0]
        new = moved(f, shape, function)
        if new is None:
            continue
        if len(np.unique(new.lanes)) < new.lanes.size and not is_scrambled(f):
            copies = state.lanes.fresh(new.lanes.size).reshape(new.lanes.shape)
            state.lanes.unite(copies, new.lanes)
            new = replace(new, lanes=copies)
        out.append(new)
    grown = [d for d, (a, b) in enumerate(zip(shape, call.shape, strict=True)) if a == 1 < b]
    return out + state.new_fields(call.shape, grown, None)


def concatenate(call: Call) -> Fields:
    """Tensors one after another on an axis; on the other axes they line up."""
    pieces = call.get(0, "tensors")
    axis = call.get(1, "dim", 0) % len(call.shape)
    state = call.state
    if not any(call.fields(p) for p in pieces):
        return []
    operands = []
    for p in pieces:
        fields = [f for f in call.fields(p) if axis not in f.varying]
        sizes = tuple(1 if d == axis else s for d, s in enumerate(shape_of(p)))
        operands.append((fields, sizes))
    out = aligned(state, operands, rest=agreed)
    labelled = [[f for f in call.fields(p) if axis in f.varying] for p in pieces]
    if not any(labelled):
        return out
    variants = {f.varying for fields in labelled for f in fields}
    if len(variants) > 1 or any(f.block for fields in labelled for f in fields):
        for fields in labelled:
            state.lock(fields, "concatenated with an axis that is laid out differently")
        return out
    return [*out, _joined(state, labelled, [shape_of(p) for p in pieces], axis)]


def _joined(state: Labelling, labelled: list[Fields], shapes: list[Shape], axis: int) -> Field:
    varying = next(f.varying for fields in labelled for f in fields)
    along = next(f.along for fields in labelled for f in fields)
    arrays = []
    for fields, shape in zip(labelled, shapes, strict=True):
        sizes = [s if d == axis or d in varying else 1 for d, s in enumerate(shape)]
        if fields:
            arrays.append(np.broadcast_to(fields[0].lanes, sizes))
        else:
            lanes = state.lanes.fresh(int(np.prod(sizes)))
            state.lanes.lock(lanes, "beside a fixed axis in a concatenation")
            arrays.append(lanes.reshape(sizes))
    lanes = np.concatenate(arrays, axis=axis)
    if len(np.unique(lanes)) < lanes.size:
        copies = state.lanes.fresh(lanes.size).reshape(lanes.shape)
        state.lanes.unite(copies, lanes)
        lanes = copies
    rest = agreed([f.rest for fields in labelled for f in fields])
    joined = Field(lanes, along, rest)
    if along != axis and len(joined.varying) == 1:
        joined = replace(joined, along=axis)
    state.require_rectangle([joined])
    return joined


def stack(call: Call) -> Fields:
    """Tensors side by side on a new axis: the same channels in each."""
    pieces = call.get(0, "tensors")
    axis = call.get(1, "dim", 0) % len(call.shape)
    operands = [(call.fields(p), shape_of(p)) for p in pieces]
    out = []
    for f in aligned(call.state, operands, rest=agreed):
        lanes = np.expand_dims(f.lanes, axis)
        out.append(replace(f, lanes=lanes, along=f.along + (f.along >= axis)))
    return out


def flip(call: Call) -> Fields:
    """Order reversed: kept channels come out reversed too."""
    return _each(call, call.fields(call.args[0]), shape_of(call.args[0]), _on_first(call))


def unfold(call: Call) -> Fields:
    """Sliding windows: ``x.unfold(dim, size, step)``, or ``F.unfold`` of ``[B, C, H, W]``."""
    source, shape = call.args[0], shape_of(call.args[0])
    if call.node.op == "call_method":
        axis = call.args[1] % len(shape)
        call.state.lock(call.fields(source), "taken apart into windows", [axis])
        fields = [f for f in call.fields(source) if axis not in f.varying]
        return _each(call, fields, shape, _on_first(call))
    call.state.lock(call.fields(source), "taken apart into windows", range(2, len(shape)))
    out = []
    for f in call.fields(source):
        if f.varying == {1}:
            lanes = np.repeat(f.lanes.ravel(), call.shape[1] // shape[1])
            out.append(axis_field(lanes, 1, len(call.shape), rest=f.rest))
        elif f.varying & {0, 1}:
            call.state.lock([f], "taken apart into windows")
    return out


def channel_shuffle(call: Call) -> Fields:
    """Groups of channels (axis 1) interleaved: each group keeps the same places."""
    groups = call.get(1, "groups")
    out = []
    for f in call.fields(call.args[0]):
        if f.varying == {1} and not f.block:
            lanes = f.lanes.reshape(groups, -1)
            call.state.lanes.unite(lanes, lanes[:1])
            out.append(axis_field(lanes.T.ravel(), 1, len(call.shape), rest=f.rest))
        elif 1 in f.varying:
            call.state.lock([f], "channels that are no plain axis are shuffled")
        else:
            out.append(f)
    return out


def pad(call: Call) -> Fields:
    """``F.pad``: pairs of widths, the last axis first; new elements hold a number or copies."""
    widths, mode = call.get(1, "pad"), call.get(2, "mode", "constant")
    value = call.get(3, "value")
    last = len(call.shape) - 1
    grown = {last - i // 2 for i, width in enumerate(widths) if width}
    fields = call.fields(call.args[0])
    call.state.lock(fields, "padded with further channels", grown)
    edge = [float(value or 0)] if mode == "constant" else []
    return [
        replace(f, rest=one_of([f.rest, *edge]) if grown else f.rest)
        for f in fields
        if not f.varying & grown
    ]


def roll(call: Call) -> Fields:
    """A rotation by a fixed number of steps."""
    axes = call.get(2, "dims")
    state, fields = call.state, call.fields(call.args[0])
    rank = len(call.shape)
    turned = range(rank) if axes is None or axes == () else np.atleast_1d(axes).tolist()
    state.lock(fields, "rotated by a fixed number of channels", [d % rank for d in turned])
    return [f for f in fields if not f.varying & {d % rank for d in turned}]


def _on_first(call: Call) -> Callable[[torch.Tensor], Any]:
    return lambda t: call.replayed({call.args[0]: t})


def _each(
    call: Call, fields: Fields, shape: Shape, function: Callable[[torch.Tensor], Any]
) -> Fields:
    out = [moved(f, shape, function) for f in fields]
    return [f for f in out if f is not None]
