"""Where channels are read: the operations that mix a channel into others, or sum it away.

A channel passes through elementwise operations, neurons, norms, pooling, depthwise convolutions
and views: what they return still carries it. It is *read* where a layer, or a product, sums over
it. Removing it changes exactly what its readers see, so criteria look at it there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from psvit.records import Dim, Field, Graph, Groups, IntArray, Scores

SELECTING = frozenset(
    {"getitem", "select", "narrow", "index_select", "gather", "take", "split", "chunk", "unbind"}
)
"""Operations that leave elements out, which is no reading."""
PRODUCTS = frozenset({"matmul", "mm", "bmm", "mv", "dot"})
WEIGHTED = frozenset({"linear", "conv1d", "conv2d", "conv3d"})


@dataclass(frozen=True, eq=False)
class Table:
    """The channels of all groups in one row: ``row[lane]`` is a lane's place, -1 for nobody's."""

    groups: Groups
    row: IntArray
    size: int

    def rows(self, field: Field) -> IntArray:
        """The place of each element of a field, in its shape; whole heads are nobody's."""
        return np.full_like(field.lanes, -1) if field.block else self.row[field.lanes]

    def split(self, values: torch.Tensor) -> Scores:
        """One value a place -> ``{group id: [C]}``."""
        scores, start = {}, 0
        for group in self.groups:
            scores[group.id] = values[start : start + group.size].clone()
            start += group.size
        return scores


@dataclass(frozen=True, eq=False)
class Operand:
    """A tensor with channels that are read. ``rows``: arrays that broadcast to it, -1: not read.

    ``source``: the node it comes from, or the name of a layer's own parameter.
    """

    source: fx.Node | str
    rows: tuple[IntArray, ...]

    @property
    def channels(self) -> IntArray:
        """The places that are read, each once."""
        every = [np.zeros(0, dtype=np.int64), *(rows.ravel() for rows in self.rows)]
        found = np.unique(np.concatenate(every))
        return found[found >= 0]


@dataclass(frozen=True, eq=False)
class Read:
    """An operation and the operands in which it reads channels; activations come first."""

    node: fx.Node
    operands: tuple[Operand, ...]


def channel_table(groups: Groups) -> Table:
    """The channels of all groups, one after the other."""
    row = np.full(len(groups.labels.channel_of), -1, dtype=np.int64)
    every = np.concatenate([np.zeros(0, dtype=np.int64), *(g.channels for g in groups)])
    place = np.full(len(row) + 1, -1, dtype=np.int64)
    place[every] = np.arange(len(every))
    row[:] = place[groups.labels.channel_of]
    return Table(groups, row, len(every))


def find_reads(graph: Graph, table: Table) -> tuple[Read, ...]:
    """Every reading operation of the eval forward, in the order they run."""
    finder = _Finder(graph, table)
    reads = []
    for node in graph.forwards["eval"].nodes:
        operands = tuple(o for o in finder.operands(node) if o.channels.size)
        if operands:
            reads.append(Read(node, operands))
    return tuple(reads)


class _Finder:
    def __init__(self, graph: Graph, table: Table) -> None:
        self._module = graph.module
        self._table = table
        self._labels = table.groups.labels
        self._fields = self._labels.fields["eval"]

    def operands(self, node: fx.Node) -> Iterator[Operand]:
        if node.op in ("placeholder", "get_attr", "output") or "shape" not in node.meta:
            return
        if node.op == "call_module":
            yield from self._layer(node)
            return
        name = _name(node)
        tensors = [n for n in node.all_input_nodes if "shape" in n.meta]
        if name in SELECTING:
            return
        summed = _summed_axes(name, node)
        if summed is not None:
            for source, axes in summed:
                yield Operand(source, self._on(source, axes))
            return
        left = self._carried(node)
        for source in tensors:
            yield Operand(source, self._without(self._of(source), left))

    def _layer(self, node: fx.Node) -> Iterator[Operand]:
        module = self._module.get_submodule(str(node.target))
        source = node.all_input_nodes[0]
        fields = self._of(source)
        if isinstance(module, _ConvNd | nn.Linear) and not _is_depthwise_transposed(module):
            name = f"{node.target}.weight"
            name = self._labels.aliases.get(name, name)
            dims: tuple[Dim, ...] = (0,) if isinstance(module, _ConvTransposeNd) else ("in", 1)
            for dim in dims:
                lanes = self._labels.slots.get((name, dim))
                if lanes is not None:
                    rows = self._table.row[lanes]
                    yield Operand(source, self._among(fields, np.unique(rows)))
                    yield Operand(name, (_weight_rows(rows, dim, module),))
                    return
        yield Operand(source, self._without(fields, self._carried(node)))

    def _of(self, node: fx.Node) -> list[Field]:
        """Fields of a tensor; none for what returns several."""
        found = self._fields.get(node.name) or []
        return [f for f in found if isinstance(f, Field)]

    def _carried(self, node: fx.Node) -> IntArray:
        rows = [self._table.rows(f).ravel() for f in self._of(node)]
        return np.unique(np.concatenate([np.full(1, -1, dtype=np.int64), *rows]))

    def _on(self, node: fx.Node, axes: Sequence[int]) -> tuple[IntArray, ...]:
        rank = len(node.meta["shape"])
        wanted = {axis % rank for axis in axes}
        return tuple(self._table.rows(f) for f in self._of(node) if f.varying & wanted)

    def _without(self, fields: Sequence[Field], left: IntArray) -> tuple[IntArray, ...]:
        return _masked([self._table.rows(f) for f in fields], left, keep=False)

    def _among(self, fields: Sequence[Field], wanted: IntArray) -> tuple[IntArray, ...]:
        return _masked([self._table.rows(f) for f in fields], wanted, keep=True)


def _masked(rows: list[IntArray], known: IntArray, *, keep: bool) -> tuple[IntArray, ...]:
    masked = [np.where(np.isin(r, known) == keep, r, -1) for r in rows]
    return tuple(r for r in masked if (r >= 0).any())


def _weight_rows(rows: IntArray, dim: Dim, module: nn.Module) -> IntArray:
    """The places of a layer's inputs, in a shape that broadcasts to its weight.

    Of a grouped convolution the weight ``[G * O, I, *kernel]`` is read as ``[G, O, I, *kernel]``.
    """
    weight: torch.Tensor = module.weight  # type: ignore[assignment]
    rest = [1] * (weight.ndim - 2)
    if dim == "in":
        groups = int(module.groups)  # type: ignore[arg-type]
        return rows.reshape(groups, 1, -1, *rest)
    return rows.reshape(-1, 1, *rest) if dim == 0 else rows.reshape(1, -1, *rest)


def _is_depthwise_transposed(module: nn.Module) -> bool:
    return isinstance(module, _ConvTransposeNd) and module.groups > 1


def _name(node: fx.Node) -> str:
    if node.op == "call_method":
        return str(node.target).strip("_")
    if getattr(node.target, "__module__", "") == "psvit_recorded":
        return ""  # a user's own function may be called anything
    return str(getattr(node.target, "__name__", "")).strip("_")


def _summed_axes(name: str, node: fx.Node) -> list[tuple[fx.Node, list[int]]] | None:
    """For an operation that multiplies: its operands, with the axes that it sums over."""
    rule = _SUMMED.get(name)
    return None if rule is None else rule(node)


def _tensors(node: fx.Node, names: Sequence[str]) -> list[Any]:
    return [
        node.args[i] if i < len(node.args) else node.kwargs.get(name)
        for i, name in enumerate(names)
    ]


def _axes(pairs: Sequence[tuple[Any, list[int]]]) -> list[tuple[fx.Node, list[int]]]:
    return [(n, axes) for n, axes in pairs if isinstance(n, fx.Node) and "shape" in n.meta]


def _product(node: fx.Node) -> list[tuple[fx.Node, list[int]]]:
    """``[..., M, K] @ [..., K, N]``."""
    left, right = _tensors(node, ("input", "other"))
    flat = isinstance(right, fx.Node) and len(right.meta.get("shape", ())) == 1
    return _axes([(left, [-1]), (right, [-1 if flat else -2])])


def _reversed_product(node: fx.Node) -> list[tuple[fx.Node, list[int]]]:
    right, left = _tensors(node, ("input", "other"))
    return _axes([(left, [-1]), (right, [-2])])


def _weighted(node: fx.Node) -> list[tuple[fx.Node, list[int]]]:
    """``[..., I] x [O, I]``, and ``[.., I, *space] x [O, I, *kernel]``: linear, conv."""
    x, weight = _tensors(node, ("input", "weight"))
    rank = len(weight.meta["shape"]) if isinstance(weight, fx.Node) else 2
    return _axes([(x, [-1 if rank == 2 else 1 - rank]), (weight, [1])])


def _einsum(node: fx.Node) -> list[tuple[fx.Node, list[int]]] | None:
    equation, *operands = node.args
    if len(operands) == 1 and isinstance(operands[0], tuple | list):
        operands = list(operands[0])
    if not isinstance(equation, str) or "->" not in equation:
        return None
    left, _, out = equation.replace(" ", "").partition("->")
    pairs = []
    for term, operand in zip(left.split(","), operands, strict=True):
        before, _, after = term.partition("...")
        axes = [i for i, letter in enumerate(before) if letter not in out]
        axes += [i - len(after) for i, letter in enumerate(after) if letter not in out]
        pairs.append((operand, axes))
    return _axes(pairs)


def _attention(node: fx.Node) -> list[tuple[fx.Node, list[int]]]:
    query, key, value = _tensors(node, ("query", "key", "value"))
    return _axes([(query, [-1]), (key, [-1]), (value, [-2])])


_SUMMED: dict[str, Callable[[fx.Node], list[tuple[fx.Node, list[int]]] | None]] = {
    **dict.fromkeys(PRODUCTS, _product),
    "rmatmul": _reversed_product,
    **dict.fromkeys(WEIGHTED, _weighted),
    "einsum": _einsum,
    "scaled_dot_product_attention": _attention,
}
