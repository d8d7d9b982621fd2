"""Rules for operations that pick elements out of a tensor: indices, masks, index tensors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import fx

from psvit.groups.align import aligned, lifted_all, lifted_all_of
from psvit.groups.call import Call, Shape, is_tensor, shape_of
from psvit.groups.fields import moved
from psvit.groups.labelling import Fields, Labelling
from psvit.groups.rest import Rest, agreed
from psvit.records import Field


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
    number: Rest = float(value) if isinstance(value, (bool, int, float)) else None
    written: Fields = []
    if is_tensor(value):
        number = call.state.known(value)
        operands = [lifted_all_of(call, value, len(shape)), lifted_all(region, shape, len(shape))]
        written = aligned(call.state, operands, rest=agreed, nodes=[value])
    fields = call.state.fields[call.state.mode]
    fields[target.name] = [
        replace(f, rest=_after_write(call.state, f, written, number)) for f in call.fields(target)
    ]
    return []


def _after_write(state: Labelling, f: Field, written: Fields, number: Rest) -> Rest:
    """What a removed lane of ``f`` holds after a part of the tensor was written."""
    own = state.lanes.roots(f.lanes).ravel()
    same = [g for g in written if np.isin(state.lanes.roots(g.lanes), own).any()]
    return agreed([f.rest, *([g.rest for g in same] or [number])])


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
    number = float(value) if isinstance(value, (bool, int, float)) else None
    fields = state.fields[state.mode]
    fields[target.name] = [replace(f, rest=agreed([f.rest, number])) for f in call.fields(target)]
    return []


def _is_mask(item: Any) -> bool:
    return is_tensor(item) and item.meta["dtype"] == torch.bool


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
    return aligned(call.state, operands, rest=lambda rests: rests[0])


def index_select(call: Call) -> Fields:
    """Indices of one axis chosen by a tensor."""
    axis = call.args[1] % len(call.shape)
    call.state.lock(call.fields(call.args[0]), "chosen by an index tensor", [axis])
    return [f for f in call.fields(call.args[0]) if axis not in f.varying]
