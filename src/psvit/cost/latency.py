"""How long a forward takes once channels are gone, from times that were measured on this machine.

Latency is not linear in channels: a layer half as wide may take as long. So each kind of layer, at
the size that it has in the dense model, has a curve: its time at the widths that were tried, by the
share of its work that is left. Work is multiply-accumulates where a layer has any, else elements of
the largest tensor that it reads or writes. Between widths a curve runs straight; it never falls
with more work, as less work that takes longer is noise. The sum over layers is no forward: a
program has costs of its own, and layers disturb one another's caches. So whole models of several
widths are timed as well, and a straight line takes sums to forwards. The dense model's own time
needs no line: it is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from torch import fx

from psvit.cost.macs import Operation
from psvit.cost.tensors import Shape, numel
from psvit.cost.terms import BoolArray
from psvit.groups import kept_shape
from psvit.records import Field, Graph

Curve = Sequence[tuple[float, float]]
"""(share of the work that is left, milliseconds), ascending."""


@dataclass(frozen=True)
class LatencyTable:
    """What was measured: ``curves`` by kind of layer, and whole models as (sum of layers, forward),
    the dense one first, all in milliseconds of one forward of ``batch`` images.

    ``machine``: what it was measured on, as names and versions.
    """

    curves: Mapping[str, Curve]
    models: Curve
    machine: Mapping[str, Any]
    batch: int


@dataclass(frozen=True, eq=False)
class TimedNode:
    """An operation of the forward: its kind, and what its work depends on."""

    node: fx.Node
    kind: str
    operation: Operation | None
    tensors: tuple[fx.Node, ...]

    def work(
        self,
        fields: Mapping[str, list[Field]],
        shapes: Mapping[str, Shape],
        dead: BoolArray | None,
    ) -> int:
        """Of the whole batch of the recording."""
        if self.operation is not None:
            return self.operation.count(shapes, dead)
        return max((numel(_left(node, fields, dead)) for node in self.tensors), default=1)


@dataclass(frozen=True, eq=False)
class Latency:
    """Predicts forwards. ``nodes`` are all that take time; see ``make_latency``.

    ``pace``: how long a forward takes now, where one took 1 when the table was measured.
    """

    table: LatencyTable
    nodes: tuple[TimedNode, ...]
    fields: Mapping[str, list[Field]]
    dense: tuple[int, ...]
    curves: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
    line: tuple[float, float]
    shape: Shape
    pace: float = 1.0

    @property
    def dense_ms(self) -> float:
        """A forward of the dense model, as measured."""
        return self.pace * self.table.models[0][1]

    def predict_ms(self, shapes: Mapping[str, Shape], dead: BoolArray | None) -> float:
        """Milliseconds of a forward with parameters of ``shapes`` and without ``dead`` lanes."""
        if dead is None:
            return self.dense_ms
        constant, slope = self.line
        return self.pace * (constant + slope * self.layers_ms(shapes, dead))

    def layers_ms(self, shapes: Mapping[str, Shape], dead: BoolArray | None) -> float:
        """The sum over all operations."""
        total = 0.0
        for node, whole in zip(self.nodes, self.dense, strict=True):
            left = whole if dead is None else node.work(self.fields, shapes, dead)
            at, ms = self.curves[node.kind]
            total += float(np.interp(left / max(whole, 1), at, ms))
        return total


def make_latency(
    table: LatencyTable, nodes: Sequence[TimedNode], graph: Graph, fields: Mapping[str, list[Field]]
) -> Latency:
    """What predicts by a table. Raises KeyError for a kind of layer that is not in it."""
    shapes = {name: tuple(p.shape) for name, p in graph.module.named_parameters()}
    curves = {kind: _rising(table.curves[kind]) for kind in {node.kind for node in nodes}}
    dense = tuple(node.work(fields, shapes, None) for node in nodes)
    line = fit_line(table.models)
    return Latency(table, tuple(nodes), fields, dense, curves, line, graph.inputs[0].shape)


def list_nodes(graph: Graph, operations: Sequence[Operation]) -> tuple[TimedNode, ...]:
    """Every node of the eval forward that computes something, with its kind."""
    costly = {operation.node: operation for operation in operations}
    nodes = []
    for node in graph.forwards["eval"].nodes:
        if node.op in ("call_module", "call_function", "call_method"):
            tensors = tuple(n for n in (node, *node.all_input_nodes) if "shape" in n.meta)
            nodes.append(TimedNode(node, _kind(graph, node, tensors), costly.get(node), tensors))
    return tuple(nodes)


def fit_line(models: Curve) -> tuple[float, float]:
    """Constant and slope from sums of layers to forwards, by least squares of relative errors.

    The constant is not below 0, and neither is the slope.
    """
    sums = np.array([one for one, _ in models])
    whole = np.array([two for _, two in models])
    slope = float((sums / whole).sum() / ((sums / whole) ** 2).sum())  # through the origin
    if len(models) < 2 or np.ptp(sums) <= 0:
        return 0.0, slope
    matrix = np.stack([1 / whole, sums / whole], 1)
    (constant, steep), *_ = np.linalg.lstsq(matrix, np.ones(len(models)), rcond=None)
    return (float(constant), float(steep)) if constant > 0 and steep > 0 else (0.0, slope)


def _rising(curve: Curve) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    at = np.array([share for share, _ in curve])
    ms = np.array([one for _, one in curve])
    order = np.argsort(at, kind="stable")
    at, ms = at[order], isotonic_regression(ms[order]).x
    shares = np.unique(at)
    return shares, np.array([ms[at == share].mean() for share in shares])


def _left(node: fx.Node, fields: Mapping[str, list[Field]], dead: BoolArray | None) -> Shape:
    shape: Shape = tuple(node.meta["shape"])
    own = fields.get(node.name)
    return shape if dead is None or not own else kept_shape(own, shape, dead)


def _kind(graph: Graph, node: fx.Node, tensors: Sequence[fx.Node]) -> str:
    """Layers of one kind take equally long: same type and settings, same sizes."""
    if node.op == "call_module":
        layer = graph.module.get_submodule(str(node.target))
        what = f"{type(layer).__name__}({layer.extra_repr()})"
    else:
        what = str(getattr(node.target, "__name__", node.target))
    sizes = [list(one.meta["shape"]) for one in tensors]
    return f"{what} {sizes}"
