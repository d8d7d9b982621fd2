"""The size arguments of operations after channels are gone: one entry an operation.

A model's own numbers (``reshape(T, B, C, H, W)``, ``x[:, :C // 4]``, ``chunk(3)``) are fixed
from the labels. A size that the forward reads from a pruned axis keeps its old value, because
models also use it as a scale (``dim ** -0.5``); where it is used as a size, the labels fix it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import fx

from psvit.capture.sizes import SIZE_ARITHMETIC
from psvit.groups.call import concrete, operation
from psvit.groups.shapes import BoolArray, kept_shape
from psvit.records import Field

Shape = tuple[int, ...]
Emitted = Any
"""A node of the new graph, or a number where a size is no longer dynamic."""


@dataclass
class Resizer:
    """Copies nodes of an old forward into a new one, with sizes as the labels say."""

    old_fields: dict[str, Any]
    dead: BoolArray
    graph: fx.Graph
    copies: dict[fx.Node, Emitted]

    # -- shapes

    def fields(self, node: Any) -> list[Field]:
        """The fields of an old node with one output."""
        found = self.old_fields.get(node.name) or [] if isinstance(node, fx.Node) else []
        return [f for f in found if isinstance(f, Field)]

    def before(self, node: fx.Node) -> Shape:
        """The old shape of a tensor."""
        return tuple(node.meta["shape"])

    def after(self, node: fx.Node) -> Shape:
        """The new shape of a tensor."""
        return kept_shape(self.fields(node), self.before(node), self.dead)

    def changed(self, node: Any) -> bool:
        """Whether a tensor gets smaller."""
        is_tensor = isinstance(node, fx.Node) and "shape" in node.meta
        return is_tensor and self.after(node) != self.before(node)

    # -- copying

    def mapped(self, argument: Any) -> Any:
        """An argument of an old node, in terms of the new graph."""
        if isinstance(argument, fx.Node):
            return self.copies[argument]
        if isinstance(argument, (tuple, list)):
            return type(argument)(self.mapped(a) for a in argument)
        if isinstance(argument, dict):
            return {k: self.mapped(v) for k, v in argument.items()}
        if isinstance(argument, slice):
            return slice(*(self.mapped(a) for a in (argument.start, argument.stop, argument.step)))
        return argument

    def copy(self, node: fx.Node) -> Emitted:
        """The node that takes an old one's place."""
        if "value" in node.meta:
            return self._size(node)
        if node.op in ("call_function", "call_method"):
            resize = RESIZERS.get(operation(node))
            if resize is not None:
                done = resize(self, node)
                if done is not None:
                    return done
        return self.emit(node, self.mapped(node.args), self.mapped(node.kwargs))

    def emit(self, node: fx.Node, args: Any, kwargs: Any) -> fx.Node:
        """The same operation with other arguments."""
        new = self.graph.create_node(node.op, node.target, tuple(args), dict(kwargs), node.name)
        new.meta = dict(node.meta)
        return new

    def _size(self, node: fx.Node) -> Emitted:
        """Sizes read from an axis that shrinks keep their old value; others stay dynamic."""
        if node.target is operator.getitem:
            source = node.args[0]
            assert isinstance(source, fx.Node)
            tensor, axis = source.args[0], node.args[1]
            if self.changed(tensor) and self.after(tensor)[axis] != self.before(tensor)[axis]:  # type: ignore[arg-type,index]
                return node.meta["value"]
        elif node.op == "call_method" and self.changed(node.args[0]):
            return node.meta["value"]
        args = self.mapped(node.args)
        if node.target in SIZE_ARITHMETIC.values() and all(isinstance(a, int) for a in args):
            return node.meta["value"]
        return self.emit(node, args, self.mapped(node.kwargs))

    def sized(self, argument: Emitted, old: int, new: int) -> Emitted:
        """A size argument that was ``old`` at the example and has to be ``new``."""
        if old == new or (isinstance(argument, int) and argument == -1):
            return argument
        if isinstance(argument, int):
            return new
        scaled = self.graph.call_function(operator.mul, (argument, new))
        return self.graph.call_function(operator.floordiv, (scaled, old))

    def position(self, node: fx.Node, axis: int, index: int) -> int:
        """Where a position on an axis moves: how many of the elements before it are kept."""
        shape = list(self.before(node))
        if index <= 0:
            return index
        prefix = []
        for f in self.fields(node):
            if axis in f.varying:
                lanes = np.take(f.lanes, range(min(index, shape[axis])), axis=axis)
                prefix.append(Field(lanes, f.along, f.rest, f.block))
        if not prefix:
            return index
        shape[axis] = min(index, shape[axis])
        return kept_shape(prefix, tuple(shape), self.dead)[axis]


Resize = Callable[[Resizer, fx.Node], Emitted | None]


def _shape_arguments(first: int) -> Resize:
    """Operations whose arguments from ``first`` on spell out the result's shape."""

    def resize(r: Resizer, node: fx.Node) -> Emitted | None:
        if not r.changed(node):
            return None
        args, kwargs = list(r.mapped(node.args)), r.mapped(node.kwargs)
        old, new = r.before(node), r.after(node)
        for key in ("shape", "size"):
            if key in kwargs:
                kwargs[key] = _resized(r, kwargs[key], old, new)
                return r.emit(node, args, kwargs)
        rest = args[first:]
        if len(rest) == 1 and isinstance(rest[0], (tuple, list)):
            args[first] = _resized(r, rest[0], old, new)
        else:
            sizes = [a for a in rest if isinstance(a, (int, fx.Node))]
            args[first : first + len(sizes)] = _resized(r, sizes, old, new)
        return r.emit(node, args, kwargs)

    return resize


def _resized(r: Resizer, sizes: Sequence[Any], old: Shape, new: Shape) -> list[Any]:
    offset = len(old) - len(sizes)
    return [r.sized(a, old[i + offset], new[i + offset]) for i, a in enumerate(sizes)]


def _unflatten(r: Resizer, node: fx.Node) -> Emitted | None:
    if not r.changed(node):
        return None
    args = r.mapped(node.args)
    source = node.args[0]
    axis = args[1] if len(args) > 1 else r.mapped(node.kwargs)["dim"]
    sizes = args[2] if len(args) > 2 else r.mapped(node.kwargs)["sizes"]
    axis %= len(r.before(source))  # type: ignore[arg-type]
    old, new = r.before(node), r.after(node)
    sizes = [r.sized(a, old[axis + i], new[axis + i]) for i, a in enumerate(sizes)]
    return r.emit(node, (args[0], axis, sizes), {})


def _repeat(r: Resizer, node: fx.Node) -> Emitted | None:
    source = node.args[0]
    if not r.changed(node):
        return None
    args, kwargs = list(r.mapped(node.args)), r.mapped(node.kwargs)
    old, new = r.before(node), r.after(node)
    pad = len(old) - len(r.before(source))  # type: ignore[arg-type]
    before = (1,) * pad + r.before(source)  # type: ignore[arg-type]
    after = (1,) * pad + r.after(source)  # type: ignore[arg-type]

    def factor(argument: Any, axis: int) -> Any:
        return r.sized(argument, old[axis] // before[axis], new[axis] // after[axis])

    if operation(node) == "repeat_interleave":
        times = args[1] if len(args) > 1 else kwargs["repeats"]
        axis = args[2] if len(args) > 2 else kwargs["dim"]
        return r.emit(node, (args[0], factor(times, axis % len(old)), axis), {})
    packed = isinstance(args[1], (tuple, list))
    times = list(args[1] if packed else args[1:])
    offset = len(old) - len(times)
    times = [factor(a, i + offset) for i, a in enumerate(times)]
    return r.emit(node, (args[0], times) if packed else (args[0], *times), kwargs)


def _mean(r: Resizer, node: fx.Node) -> Emitted | None:
    """A mean over channels keeps its old denominator."""
    source = node.args[0]
    axes = concrete(node.args[1] if len(node.args) > 1 else node.kwargs.get("dim"))
    if axes is None or not r.changed(source):
        return None
    old, new = r.before(source), r.after(source)  # type: ignore[arg-type]
    axes = [axes] if isinstance(axes, int) else axes
    share = math.prod(new[d] for d in axes) / math.prod(old[d] for d in axes)
    out = r.emit(node, r.mapped(node.args), r.mapped(node.kwargs))
    return out if share == 1 else r.graph.call_function(operator.mul, (out, share))


def _split(r: Resizer, node: fx.Node) -> Emitted | None:
    source = node.args[0]
    if not r.changed(source):
        return None
    args = concrete(node.args)
    axis = node.kwargs.get("dim", args[2] if len(args) > 2 else 0)
    if operation(node) == "hsplit":
        axis = 1
    axis %= len(r.before(source))  # type: ignore[arg-type,operator]
    if r.after(source)[axis] == r.before(source)[axis]:  # type: ignore[arg-type]
        return None
    parts = zip(r.old_fields[node.name], node.meta["parts"], strict=True)
    sizes = [kept_shape(fields, shape, r.dead)[axis] for fields, shape in parts]
    new = r.graph.call_function(torch.split, (r.copies[source], sizes, axis))  # type: ignore[index]
    new.meta = dict(node.meta)
    return new


def _index(r: Resizer, node: fx.Node) -> Emitted | None:
    source = node.args[0]
    if not r.changed(source):
        return None
    assert isinstance(source, fx.Node)
    index = node.args[1]
    items = index if isinstance(index, tuple) else (index,)
    shape, shrunk = r.before(source), r.after(source)
    taken = sum(i is not None and i is not Ellipsis for i in items)
    out: list[Any] = []
    axis = 0
    for item in items:
        if item is Ellipsis:
            axis += len(shape) - taken
        moves = axis < len(shape) and shrunk[axis] != shape[axis]  # else T, say, stays dynamic
        out.append(_moved_index(r, source, axis, item) if moves else r.mapped(item))
        axis += item is not None and item is not Ellipsis
    new_index = tuple(out) if isinstance(index, tuple) else out[0]
    args = (r.copies[source], new_index, *r.mapped(node.args[2:]))
    return r.emit(node, args, r.mapped(node.kwargs))


def _moved_index(r: Resizer, source: fx.Node, axis: int, item: Any) -> Any:
    size = r.before(source)[axis]
    if isinstance(item, slice):

        def edge(value: Any) -> Any:
            value = concrete(value)
            if value is None:
                return None
            return r.position(source, axis, value % size if value < 0 else value)

        return slice(edge(item.start), edge(item.stop), item.step)
    number = concrete(item)
    if isinstance(number, int) and not isinstance(number, bool):
        return r.position(source, axis, number % size)
    return r.mapped(item)


def _narrow(r: Resizer, node: fx.Node) -> Emitted | None:
    source = node.args[0]
    if not r.changed(source):
        return None
    args = concrete(node.args)
    names = ("input", "dim", "start", "length")
    axis, start, length = (
        args[i] if len(args) > i else concrete(node.kwargs[names[i]]) for i in (1, 2, 3)
    )
    axis %= len(r.before(source))  # type: ignore[arg-type]
    first = r.position(source, axis, start)  # type: ignore[arg-type]
    last = r.position(source, axis, start + length)  # type: ignore[arg-type]
    return r.emit(node, (r.copies[source], axis, first, last - first), {})  # type: ignore[index]


def _select(r: Resizer, node: fx.Node) -> Emitted | None:
    source = node.args[0]
    if not r.changed(source):
        return None
    axis, index = concrete(node.args[1:3])
    axis %= len(r.before(source))  # type: ignore[arg-type]
    index %= r.before(source)[axis]  # type: ignore[arg-type]
    return r.emit(node, (r.copies[source], axis, r.position(source, axis, index)), {})  # type: ignore[index,arg-type]


def _convolution(r: Resizer, node: fx.Node) -> Emitted | None:
    groups = concrete(node.args[6] if len(node.args) > 6 else node.kwargs.get("groups", 1))
    if groups == 1 or not r.changed(node):
        return None
    args, kwargs = list(r.mapped(node.args)), r.mapped(node.kwargs)
    new = groups * r.after(node)[1] // r.before(node)[1]
    if len(args) > 6:
        args[6] = new
    else:
        kwargs["groups"] = new
    return r.emit(node, args, kwargs)


def _group_norm(r: Resizer, node: fx.Node) -> Emitted | None:
    if not r.changed(node):
        return None
    args, kwargs = list(r.mapped(node.args)), r.mapped(node.kwargs)
    old = concrete(node.args[1] if len(node.args) > 1 else node.kwargs["num_groups"])
    new = old * r.after(node)[1] // r.before(node)[1]
    if len(args) > 1:
        args[1] = new
    else:
        kwargs["num_groups"] = new
    return r.emit(node, args, kwargs)


def _attention(r: Resizer, node: fx.Node) -> Emitted | None:
    """The default scale is that of the original width."""
    query = node.args[0] if node.args else node.kwargs["query"]
    if not r.changed(query) or node.kwargs.get("scale") is not None:
        return None
    kwargs = r.mapped(node.kwargs) | {"scale": r.before(query)[-1] ** -0.5}  # type: ignore[arg-type]
    return r.emit(node, r.mapped(node.args), kwargs)


_SIZES_AFTER_TENSOR = (
    "reshape", "view", "expand", "broadcast_to", "new_zeros", "new_ones", "new_empty", "new_full",
)  # fmt: skip

RESIZERS: dict[str, Resize] = {
    **dict.fromkeys(_SIZES_AFTER_TENSOR, _shape_arguments(1)),
    **dict.fromkeys(("zeros", "ones", "empty", "full", "rand", "randn"), _shape_arguments(0)),
    **dict.fromkeys(("repeat", "tile", "repeat_interleave"), _repeat),
    **dict.fromkeys(("chunk", "split", "tensor_split", "split_with_sizes", "hsplit"), _split),
    **dict.fromkeys(("getitem", "setitem"), _index),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _convolution),
    "unflatten": _unflatten,
    "mean": _mean,
    "narrow": _narrow,
    "select": _select,
    "group_norm": _group_norm,
    "scaled_dot_product_attention": _attention,
}  # fmt: skip
"""Operations that take sizes or positions. All others are copied as they are."""
