"""The one alignment rule: elementwise operations, matmul and einsum are all this.

Bring the operands to a common set of axes. On each axis, either every operand of size > 1 has a
field that varies there, and the fields are united position by position; or one has none, and
the channels that meet its fixed size are locked. Axes that are summed are reduced at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import fx

from psvit.groups.call import Call, Shape, shape_of
from psvit.groups.fields import lifted
from psvit.groups.labelling import Fields, Labelling
from psvit.groups.rest import Rest, product
from psvit.records import Field

Operand = tuple[Fields, tuple[int, ...]]
"""Fields and sizes of one operand, both over the common axes (size 1: broadcast)."""


def aligned(
    state: Labelling,
    operands: Sequence[Operand],
    summed: Sequence[int] = (),
    *,
    rest: Callable[[tuple[Rest, ...]], Rest] = product,
    nodes: Sequence[fx.Node] = (),
    tag: str | None = None,
) -> Fields:
    """Fields of the result over the common axes; summed axes keep size 1.

    ``rest`` tells what a removed channel of the result holds, given what it holds in each operand.
    ``nodes``: the operands themselves; one that has no channels may be a constant that is known.
    ``tag`` says what role the operation suggests.
    """
    for fields, _ in operands:
        state.require_rectangle(fields)
    for i, (fields, _) in enumerate(operands):
        for j, (others, sizes) in enumerate(operands):
            if i != j:
                for f in fields:
                    _meet(state, f, others, sizes)
    result = _united(state, operands, rest, nodes)
    if tag:
        for f in result:
            if not f.block:
                state.tags.append((f.lanes, "contracted" if f.varying & set(summed) else tag))
    reduced = [state.reduced(f, summed, "a product summed", exact=True) for f in result]
    return [f for f in reduced if f is not None]


def _meet(state: Labelling, f: Field, others: Fields, sizes: Sequence[int]) -> None:
    """One field against another operand of the same operation."""
    for axis in f.varying:
        if sizes[axis] == 1:
            continue
        partners = [g for g in others if axis in g.varying]
        if not partners:
            state.pin(f, axis, f"meets a fixed axis of size {sizes[axis]}")
    for g in others:
        shared = f.varying & g.varying
        if not shared or (f.block and g.block):
            continue
        if f.varying == g.varying and not f.block and not g.block:
            if f.along != g.along:
                state.unite_slices(f)
            state.lanes.unite(f.lanes, g.lanes)
        elif not g.block and not f.block and g.varying < f.varying and g.varying == {f.along}:
            state.lanes.unite(f.lanes, g.lanes)
        elif not g.block and not f.block and f.varying < g.varying and f.varying == {g.along}:
            continue  # the same pair, seen from the other side
        else:
            state.link(f, g, sorted(shared))


def _united(
    state: Labelling,
    operands: Sequence[Operand],
    rest: Callable[[tuple[Rest, ...]], Rest],
    nodes: Sequence[fx.Node],
) -> Fields:
    """The fields of all operands, those that say the same said once."""
    every = [f for fields, _ in operands for f in fields]
    result: Fields = []
    seen: set[tuple[bool, frozenset[int], bytes]] = set()
    for f in every:
        if any(
            not g.block and (f.varying < g.varying or (f.block and f.varying == g.varying))
            for g in every
        ):
            continue
        key = (f.block, f.varying, np.unique(state.lanes.roots(f.lanes)).tobytes())
        if key in seen:
            continue
        seen.add(key)
        rests = [_held(f, fields) for fields, _ in operands]
        for i, node in enumerate(nodes):
            if rests[i] is None and not any(f.varying & g.varying for g in operands[i][0]):
                rests[i] = state.known(node)
        result.append(replace(f, rest=rest(tuple(rests))))
    return result


def _held(f: Field, fields: Fields) -> Rest:
    """What an operand with ``fields`` holds where a channel of ``f`` is removed."""
    known = [g.rest for g in fields if _covers(g, f) and g.rest is not None]
    return 0.0 if 0.0 in known else next(iter(known), None)


def _covers(g: Field, f: Field) -> bool:
    return g is f or (not g.block and g.varying in (f.varying, frozenset({f.along})))


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
