"""The two sides of every operation that costs MACs: the counterpart of ``MAC_RULES``.

``describe`` gives an operation's terms, or none where it has no rule here: such an operation
counts as real-valued, and its name is reported.

T steps, B batch, C channels, G groups, I inputs of a group, O outputs of a group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from psvit.cost.einsum import einsum_letters
from psvit.cost.macs import Call, Operation, operation_name
from psvit.cost.positions import Axis, reach
from psvit.cost.tensors import Shape
from psvit.cost.terms import (
    G,
    I,
    K,
    M,
    N,
    O,
    Side,
    Term,
    field_lanes,
    leading,
    magnitudes,
    make_term,
)
from psvit.records import Field, Graph, IntArray, Labels


@dataclass(frozen=True, eq=False)
class Part:
    """A term of an operation with the MACs it stands for. ``term`` None: no rule, real-valued."""

    operation: Operation
    term: Term | None
    suffix: str = ""


@dataclass(frozen=True, eq=False)
class Site:
    """An operation where it stands: its arguments, and what is known about them."""

    graph: Graph
    labels: Labels
    operation: Operation
    from_input: frozenset[fx.Node]

    def call(self) -> Call:
        """Reads arguments by position or name."""
        return Call(self.operation.node, (), (), lambda node: tuple(node.meta["shape"]))

    def argument(self, position: int, *names: str) -> Any:
        """An argument, with sizes that the recording kept dynamic as plain numbers."""
        return _plain(self.call().value(position, *names))

    def fields(self, node: fx.Node) -> list[Field]:
        """The channels of a tensor."""
        return list(self.labels.fields.get("eval", {}).get(node.name, []))

    def slot(self, dim: int) -> IntArray | None:
        """The channels on an axis of the layer's weight; None if nobody's."""
        lanes = self.labels.slots.get((str(self.operation.weight), dim))
        return None if lanes is None else np.asarray(lanes)

    def side(self, node: Any, letters: tuple[int, ...]) -> Side | None:
        """A tensor as it is; None for what is no tensor of that rank."""
        if not isinstance(node, fx.Node) or len(node.meta.get("shape", ())) != len(letters):
            return None
        lanes = field_lanes(self.fields(node))
        return Side(letters, node, spiking=node in self.from_input, lanes=lanes)


def describe(
    graph: Graph, labels: Labels, operation: Operation, from_input: frozenset[fx.Node]
) -> list[Part]:
    """The terms of an operation."""
    site = Site(graph, labels, operation, from_input)
    if operation.node.op == "call_module":
        module = graph.module.get_submodule(str(operation.node.target))
        if isinstance(module, _ConvNd):
            return [Part(operation, _layer_conv(site, module))]
        if isinstance(module, nn.Linear):
            return [Part(operation, _layer_linear(site, module))]
        return [Part(operation, None)]
    name = operation_name(operation.node)
    if name == "scaled_dot_product_attention":
        return _attention(site)
    rule = _RULES.get(name)
    return [Part(operation, None if rule is None else rule(site))]


def _term(a: Side | None, b: Side | None) -> Term | None:
    return None if a is None or b is None else make_term(a, b)


def _layer_linear(site: Site, module: nn.Module) -> Term | None:
    node = site.argument(0, "input", "x")
    rank = len(node.meta["shape"])
    inputs = site.side(node, (*leading(rank - 1), K))
    slot = site.slot(0)
    lanes = () if slot is None else (slot.reshape(-1, 1),)
    weight: torch.Tensor = module.weight  # type: ignore[assignment]
    return _term(inputs, Side((N, K), sizes=tuple(weight.shape), lanes=lanes))


def _layer_conv(site: Site, module: _ConvNd) -> Term | None:
    transposed = isinstance(module, _ConvTransposeNd)
    axes = tuple(
        Axis(
            kernel,
            module.stride[i],
            module.padding if isinstance(module.padding, str) else module.padding[i],
            module.dilation[i],
            module.padding_mode,
            transposed,
            module.output_padding[i],
        )
        for i, kernel in enumerate(module.kernel_size)
    )
    slot = site.slot(1 if transposed else 0)
    node = site.argument(0, "input", "x")
    return _conv(site, node, axes, module.groups, module.out_channels, slot, transposed)


def _function_conv(rank: int, transposed: bool) -> Callable[[Site], Term | None]:
    def rule(site: Site) -> Term | None:
        weight = site.argument(1, "weight")
        stride = _each(site.argument(3, "stride"), rank, 1)
        padding = site.argument(4, "padding")
        paddings = [padding] * rank if isinstance(padding, str) else _each(padding, rank, 0)
        output_padding = _each(site.argument(5, "output_padding"), rank, 0) if transposed else None
        groups = site.argument(6, "groups")
        # conv: (.., dilation, groups); transposed: (.., output_padding, groups, dilation)
        dilation = _each(site.argument(7 if transposed else 5, "dilation"), rank, 1)
        shape = weight.meta["shape"]
        axes = tuple(
            Axis(
                shape[2 + i],
                stride[i],
                paddings[i],
                dilation[i],
                transposed=transposed,
                output_padding=0 if output_padding is None else output_padding[i],
            )
            for i in range(rank)
        )
        groups = 1 if groups is None else int(groups)
        outputs = shape[1] * groups if transposed else shape[0]
        slot = _axis_lanes(site.fields(weight), 1 if transposed else 0)
        return _conv(site, site.argument(0, "input"), axes, groups, outputs, slot, transposed)

    return rule


def _conv(
    site: Site,
    node: Any,
    axes: tuple[Axis, ...],
    groups: int,
    outputs: int,
    slot: IntArray | None,
    transposed: bool,
) -> Term | None:
    """Spikes weighted by how many positions they reach, times the outputs of their group."""
    if not isinstance(node, fx.Node):
        return None
    shape = tuple(node.meta["shape"])
    front = len(shape) - len(axes) - 1

    def read(x: torch.Tensor) -> torch.Tensor:
        x = magnitudes(x)
        for axis in reversed(axes):
            weights = torch.from_numpy(reach(axis, x.shape[-1])).to(x.device, x.dtype)
            x = x @ weights
        return x.reshape(*x.shape[:-1], groups, -1)

    def layout(sizes: Shape) -> Shape:
        return (*sizes[:front], groups, sizes[front] // groups)

    lanes: list[IntArray] = []
    for one in field_lanes(site.fields(node)):
        if prod(one.shape[front + 1 :]) > 1:
            continue  # channels that lie along positions: such an axis cannot be cut here
        size = one.shape[front]
        split = (groups, size // groups) if size > 1 else (1, 1)
        lanes.append(one.reshape(*one.shape[:front], *split))
    inputs = Side(
        (*leading(front), G, I),
        node,
        spiking=node in site.from_input,
        lanes=tuple(lanes),
        read=read,
        layout=layout,
    )
    of_outputs: tuple[IntArray, ...] = ()
    if slot is not None and slot.size > 1:
        # a transposed weight names the outputs of one group, which all groups share
        of_outputs = (slot.reshape(1 if transposed else groups, -1),)
    return make_term(inputs, Side((G, O), sizes=(groups, outputs // groups), lanes=of_outputs))


def _product(first: tuple[Any, ...], second: tuple[Any, ...]) -> Callable[[Site], Term | None]:
    """A matrix product of the arguments at two places (position, names...)."""

    def rule(site: Site) -> Term | None:
        a, b = site.argument(*first), site.argument(*second)
        if not isinstance(a, fx.Node) or not isinstance(b, fx.Node):
            return None
        left, right = len(a.meta["shape"]), len(b.meta["shape"])
        rows = (*leading(left - 2), M, K) if left > 1 else (K,)
        columns = (*leading(right - 2), K, N) if right > 1 else (K,)
        return _term(site.side(a, rows), site.side(b, columns))

    return rule


def _function_linear(site: Site) -> Term | None:
    node, weight = site.argument(0, "input"), site.argument(1, "weight")
    rank = len(node.meta["shape"])
    letters = (N, K) if len(weight.meta["shape"]) == 2 else (K,)
    return _term(site.side(node, (*leading(rank - 1), K)), site.side(weight, letters))


def _einsum(site: Site) -> Term | None:
    operands = site.operation.node.args[1:]
    if len(operands) == 1 and isinstance(operands[0], tuple | list):
        operands = tuple(operands[0])
    if len(operands) != 2 or not all(isinstance(node, fx.Node) for node in operands):
        return None
    shapes = [tuple(node.meta["shape"]) for node in operands]  # type: ignore[union-attr]
    named = einsum_letters(str(site.operation.node.args[0]), shapes)
    known = {letter: i for i, letter in enumerate(dict.fromkeys([*named[0], *named[1]]))}
    if any(len(set(term)) != len(term) for term in named):
        return None  # a diagonal
    sides = [
        site.side(node, tuple(known[letter] for letter in term))
        for node, term in zip(operands, named, strict=True)
    ]
    return _term(sides[0], sides[1])


def _attention(site: Site) -> list[Part]:
    """Scores of queries and keys, then the values mixed by weights that are real (softmax)."""
    query, key = site.argument(0, "query"), site.argument(1, "key")
    value = site.argument(2, "value")
    shapes = [tuple(node.meta["shape"]) for node in (query, key, value)]
    if len({len(shape) for shape in shapes}) > 1 or len({shape[:-2] for shape in shapes}) > 1:
        return [Part(site.operation, None)]  # heads that share keys
    front = leading(len(shapes[0]) - 2)
    scores = _term(site.side(query, (*front, M, K)), site.side(key, (*front, N, K)))
    weights = Side((*front, M), query, layout=lambda sizes: sizes[:-1])
    mix = _term(weights, site.side(value, (*front, N, K)))
    return [
        Part(replace(site.operation, rule=_score_macs), scores, " scores"),
        Part(replace(site.operation, rule=_mix_macs), mix, " mix"),
    ]


def _score_macs(call: Call) -> int:
    return prod(call.operand(0, "query")) * call.operand(1, "key")[-2]


def _mix_macs(call: Call) -> int:
    return prod(call.out) * call.operand(1, "key")[-2]


_MATMUL = _product((0, "input"), (1, "other", "mat2", "vec", "tensor"))

_RULES: Mapping[str, Callable[[Site], Term | None]] = {
    "linear": _function_linear,
    **{f"conv{rank}d": _function_conv(rank, False) for rank in (1, 2, 3)},
    **{f"conv_transpose{rank}d": _function_conv(rank, True) for rank in (1, 2, 3)},
    **dict.fromkeys(("matmul", "mm", "mv", "bmm", "dot"), _MATMUL),
    "rmatmul": _product((1, "other"), (0, "input")),
    "addmm": _product((1, "mat1"), (2, "mat2")),
    "addmv": _product((1, "mat"), (2, "vec")),
    "addbmm": _product((1, "batch1"), (2, "batch2")),
    "baddbmm": _product((1, "batch1"), (2, "batch2")),
    "einsum": _einsum,
}


def _axis_lanes(fields: list[Field], axis: int) -> IntArray | None:
    """The lanes along one axis of a weight, if that is where they differ."""
    for one in fields:
        if one.lanes.shape[axis] > 1 and one.lanes.size == one.lanes.shape[axis]:
            return one.lanes.ravel()
    return None


def _each(value: Any, rank: int, default: int) -> list[int]:
    """One number an axis."""
    if value is None:
        return [default] * rank
    return list(value) if isinstance(value, tuple | list) else [int(value)] * rank


def _plain(value: Any) -> Any:
    if isinstance(value, fx.Node) and "value" in value.meta:
        return value.meta["value"]
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
