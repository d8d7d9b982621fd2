"""Rules for operations that only move elements: views, slices, permutations, copies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import fx

from psvit.groups.align import aligned
from psvit.groups.call import Call, Shape, is_tensor, shape_of
from psvit.groups.fields import (
    axis_field,
    is_scrambled,
    lifted,
    merges_out_of_order,
    moved,
    reshaped,
)
from psvit.groups.labelling import Fields, Labelling
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


def select(call: Call) -> Fields:
    """One index of an axis."""
    axis = call.args[1] % len(shape_of(call.args[0]))
    index = call.args[2] % shape_of(call.args[0])[axis]
    return _indexed(call, call.args[0], tuple([slice(None)] * axis + [index]))


def getitem(call: Call) -> Any:
    """Indexing by numbers, slices and index tensors."""
    source, index = call.args
    if isinstance(source, fx.Node) and "parts" in source.meta and "shape" not in source.meta:
        found = call.state.fields[call.state.mode].get(source.name) or []
        return found[index] if isinstance(index, int) and index < len(found) else []
    return _indexed(call, source, index if isinstance(index, tuple) else (index,))


def setitem(call: Call) -> Fields:
    """``x[index] = value`` lines the region up with the value, in place."""
    target, index, value = call.args
    index = index if isinstance(index, tuple) else (index,)
    if any(_is_mask(i) for i in index):
        return _masked_setitem(call, target, index, value)
    region = _indexed(call, target, index)
    shape = _region_shape(target, index)
    flags: tuple[bool, ...]
    if is_tensor(value):
        operands = [lifted_all(region, shape, len(shape)), lifted_all_of(call, value, len(shape))]
        aligned(call.state, operands)
        flags = tuple(f.zero for f in call.fields(value)) or (True,)
    else:
        flags = (not isinstance(value, (int, float)) or value == 0,)
    fields = call.state.fields[call.state.mode]
    fields[target.name] = [replace(f, zero=f.zero and all(flags)) for f in call.fields(target)]
    return []


def _masked_setitem(call: Call, target: Any, index: tuple[Any, ...], value: Any) -> Fields:
    """``x[mask] = value``: the mask lines up with the leading axes of x."""
    mask, state = index[0], call.state
    if len(index) > 1 or (is_tensor(value) and call.fields(value)):
        state.lock(call.fields(target), "set by a mask: its size depends on the data")
        return []
    rank = len(shape_of(target))
    trailing = rank - len(shape_of(mask))
    padded = [
        replace(f, lanes=f.lanes.reshape(f.lanes.shape + (1,) * trailing))
        for f in call.fields(mask)
    ]
    operand = (padded, shape_of(mask) + (1,) * trailing)
    aligned(state, [(call.fields(target), shape_of(target)), operand])
    zero = isinstance(value, (int, float)) and value == 0
    fields = state.fields[state.mode]
    fields[target.name] = [replace(f, zero=f.zero and zero) for f in call.fields(target)]
    return []


def _is_mask(item: Any) -> bool:
    return is_tensor(item) and item.meta["dtype"] == torch.bool


def lifted_all(fields: Fields, shape: Shape, rank: int) -> tuple[Fields, Shape]:
    """Fields and sizes of an operand over the axes of a broadcast result."""
    return [lifted(f, shape, rank)[0] for f in fields], (1,) * (rank - len(shape)) + shape


def lifted_all_of(call: Call, value: Any, rank: int) -> tuple[Fields, Shape]:
    """The same for an argument of a call; numbers have no sizes."""
    shape = shape_of(value)
    if len(shape) > rank:  # a value may carry leading axes of size 1
        extra = len(shape) - rank
        fields = [
            replace(f, lanes=f.lanes.reshape(f.lanes.shape[extra:]), along=f.along - extra)
            for f in call.fields(value)
            if all(s == 1 for s in f.lanes.shape[:extra])
        ]
        return fields, shape[extra:]
    return lifted_all(call.fields(value), shape, rank)


def _region_shape(target: fx.Node, index: tuple[Any, ...]) -> Shape:
    shape = shape_of(target)
    return tuple(torch.empty(1).expand(shape)[_index_of_zeros(index)].shape)


def _index_of_zeros(index: tuple[Any, ...]) -> tuple[Any, ...]:
    """The index with zeros in place of tensors: lanes do not vary on those axes anyway."""
    return tuple(
        torch.zeros(shape_of(i), dtype=torch.long)
        if is_tensor(i)
        else torch.zeros(len(i), dtype=torch.long)
        if isinstance(i, list)
        else i
        for i in index
    )


def _indexed(call: Call, source: Any, index: tuple[Any, ...]) -> Fields:
    state, shape, fields = call.state, shape_of(source), call.fields(source)
    if any(_is_mask(i) for i in index):
        return _masked(call, source, index)
    taken = sum(i is not None and i is not Ellipsis for i in index)
    axis = 0
    for item in index:
        if item is None:
            continue
        if item is Ellipsis:
            axis += len(shape) - taken
            continue
        for f in fields:
            if axis in f.varying:
                _index_axis(state, f, axis, item)
        axis += 1
    state.require_rectangle(fields)
    out = [moved(f, _roomy(f, shape), lambda t: t[_index_of_zeros(index)]) for f in fields]
    return [f for f in out if f is not None]


def _roomy(f: Field, shape: Shape) -> Shape:
    """The shape with room on unlabelled axes: ``x[1:]`` must not come out empty where T is 1."""
    return tuple(s if d in f.varying else max(s, 64) for d, s in enumerate(shape))


def _masked(call: Call, source: Any, index: tuple[Any, ...]) -> Fields:
    """``x[mask]``: the masked axes become one, of a size that the data decides."""
    count, fields = len(shape_of(index[0])), call.fields(source)
    kept = [f for f in fields if len(index) == 1 and min(f.varying) >= count]
    call.state.lock(
        [f for f in fields if f not in kept], "chosen by a mask: its size depends on data"
    )
    return [
        replace(f, lanes=f.lanes.reshape((1, *f.lanes.shape[count:])), along=f.along - count + 1)
        for f in kept
    ]


def _index_axis(state: Labelling, f: Field, axis: int, item: Any) -> None:
    if isinstance(item, slice):
        if item.step not in (None, 1):
            state.lock([f], f"taken in steps of {item.step}")
    elif isinstance(item, int):
        if axis == f.along and not f.block:
            state.lanes.lock(np.take(f.lanes, [item], axis=axis), "read by its number")
        else:
            state.pin(f, axis, "read by its number")
    else:
        state.lock([f], "chosen by an index tensor")


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
    return out + state.new_fields(call.shape, grown, zero=False)


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
    out = aligned(state, operands, zero=all)
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
    zero = all(f.zero for fields in labelled for f in fields)
    joined = Field(lanes, along, zero)
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
    for f in aligned(call.state, operands, zero=all):
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
            out.append(axis_field(lanes, 1, len(call.shape), zero=f.zero))
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
            out.append(axis_field(lanes.T.ravel(), 1, len(call.shape), zero=f.zero))
        elif 1 in f.varying:
            call.state.lock([f], "channels that are no plain axis are shuffled")
        else:
            out.append(f)
    return out


def roll(call: Call) -> Fields:
    """A rotation by a fixed number of steps."""
    axes = call.get(2, "dims")
    state, fields = call.state, call.fields(call.args[0])
    rank = len(call.shape)
    turned = range(rank) if axes is None or axes == () else np.atleast_1d(axes).tolist()
    state.lock(fields, "rotated by a fixed number of channels", [d % rank for d in turned])
    return [f for f in fields if not f.varying & {d % rank for d in turned}]


def gather(call: Call) -> Fields:
    """Elements of one axis chosen by an index tensor; the other axes line up with the index."""
    source, axis, index = call.args[0], call.get(1, "dim"), call.get(2, "index")
    axis %= len(call.shape)
    call.state.lock(call.fields(source), "chosen by an index tensor", [axis])
    call.state.lock(call.fields(index), "used as an index", [axis])
    operands = []
    for tensor in (source, index):
        shape = tuple(1 if d == axis else s for d, s in enumerate(shape_of(tensor)))
        operands.append(([f for f in call.fields(tensor) if axis not in f.varying], shape))
    return aligned(call.state, operands, zero=lambda flags: flags[0])


def index_select(call: Call) -> Fields:
    """Indices of one axis chosen by a tensor."""
    axis = call.args[1] % len(call.shape)
    call.state.lock(call.fields(call.args[0]), "chosen by an index tensor", [axis])
    return [f for f in call.fields(call.args[0]) if axis not in f.varying]


def _on_first(call: Call) -> Callable[[torch.Tensor], Any]:
    return lambda t: call.replayed({call.args[0]: t})


def _each(
    call: Call, fields: Fields, shape: Shape, function: Callable[[torch.Tensor], Any]
) -> Fields:
    out = [moved(f, shape, function) for f in fields]
    return [f for f in out if f is not None]
