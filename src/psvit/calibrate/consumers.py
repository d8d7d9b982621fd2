"""Which linear operations read the channels of which group, by rules on the graph alone.

A *consumer* is a weight (a parameter) with every call that multiplies it: a linear layer or a
convolution, be it a module or ``F.linear`` / ``F.conv*d``. A layer that is called once a time
step is one consumer with several calls. The two linear layers of a chain without a spike in
between are two consumers, each of its own input.

Canonical form, for every kind: the layer has G convolution groups (1 for all but grouped
convolutions), each with O outputs and c columns, ``c = I * K`` for I input channels and K kernel
positions (1 for a linear layer); column ``i * K + k`` is channel i at kernel position k, as in
``weight.reshape(G, O, c)``. ``psvit.calibrate.patches`` lays the inputs out in the same columns.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from psvit.calibrate.patches import Geometry, geometry_of_call, geometry_of_layer
from psvit.records import Graph, Groups, IntArray, Labels

MOVES = frozenset(
    {"view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as"}
    | {"permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t"}
    | {"contiguous", "clone", "detach", "alias", "to", "type_as", "float", "double"}
)
"""Operations that only move elements, so that a constant added before is one added after."""

_STILL = (nn.Identity, nn.modules.dropout._DropoutNd)
"""Layers that do nothing in eval mode."""


@dataclass(frozen=True, eq=False)
class Consumer:
    """A weight that reads channels, its calls, and where a change of its bias can go.

    ``weight``: the parameter's name. ``calls`` and ``sources``: the nodes of the eval forward
    that multiply it, and the tensor that each reads. ``group`` and ``channel``, ``[G * I]``: for
    each input channel of the layer the id of the group and the index in ``Group.channels``; -1
    for an input that stands for no channel. ``bias``: the bias parameter, of this layer alone.
    ``norm``: the batch norm that alone reads the output, and nothing else: the output's constant
    can be taken out of its running mean. Neither: a constant cannot be absorbed anywhere.
    """

    weight: str
    geometry: Geometry
    calls: tuple[fx.Node, ...]
    sources: tuple[fx.Node, ...]
    group: IntArray
    channel: IntArray
    bias: str | None = None
    norm: str | None = None

    @property
    def name(self) -> str:
        """The layer, for people."""
        return self.weight.removesuffix(".weight") or "the model"

    @property
    def absorber(self) -> str | None:
        """The tensor that takes up a constant: the bias, or the norm's running mean (negated)."""
        mean = None if self.norm is None else f"{self.norm}.running_mean"
        return self.bias or mean

    @property
    def absorbs(self) -> bool:
        """Whether the fit may have a constant term."""
        return self.bias is not None or self.norm is not None

    @property
    def groups_read(self) -> tuple[int, ...]:
        """Ids of the groups whose channels it reads, ascending."""
        return tuple(int(g) for g in np.unique(self.group) if g >= 0)

    def lost(self, removal: Mapping[int, Any]) -> torch.Tensor:
        """``[G, c]`` bool: the columns that go when these channels (group -> indices) go."""
        gone = np.zeros(len(self.group), dtype=bool)
        for group, channels in removal.items():
            gone |= (self.group == group) & np.isin(self.channel, list(channels))
        columns = torch.from_numpy(gone).repeat_interleave(self.geometry.taps)
        return columns.reshape(self.geometry.groups, -1)


def list_consumers(graph: Graph, groups: Groups) -> tuple[Consumer, ...]:
    """Every consumer of the eval forward, in the order of the first call.

    Those whose input stands for no channel (images) are listed too, with -1 throughout. Left
    out are transposed convolutions, weights that are computed from parameters at each call, and
    weights that something else reads as well.
    """
    forward = graph.forwards["eval"]
    names = _names(graph.module)
    where = {int(c): (g.id, i) for g in groups for i, c in enumerate(g.channels.tolist())}
    found: dict[str, list[_Seen]] = defaultdict(list)
    for node in forward.nodes:
        seen = _read(graph, node, names)
        if seen is not None:
            found[seen.weight].append(seen)
    readers = _readers(graph, names)
    biases = Counter(bias for calls in found.values() for bias in {c.bias for c in calls} if bias)
    consumers = []
    for weight, seen_calls in found.items():
        first = seen_calls[0]
        if any(c.geometry != first.geometry or c.bias != first.bias for c in seen_calls):
            continue
        calls = tuple(c.node for c in seen_calls)
        if readers[weight] != set(calls):
            continue
        bias = first.bias
        if bias is not None and (biases[bias] > 1 or readers[bias] != set(calls)):
            bias = None
        inputs = _input_lanes(groups.labels, weight, first)
        owners = [where.get(int(c), (-1, -1)) for c in inputs]
        table = np.array(owners, dtype=np.int64).reshape(-1, 2)
        consumers.append(
            Consumer(
                weight=weight,
                geometry=first.geometry,
                calls=calls,
                sources=tuple(c.source for c in seen_calls),
                group=table[:, 0],
                channel=table[:, 1],
                bias=bias,
                norm=_absorbing_norm(graph, groups.labels, weight, calls),
            )
        )
    return tuple(consumers)


@dataclass(frozen=True, eq=False)
class _Seen:
    """One call: of which weight and bias (first names), and what it reads."""

    node: fx.Node
    source: fx.Node
    weight: str
    bias: str | None
    geometry: Geometry
    inputs: int
    outputs: int


def _read(graph: Graph, node: fx.Node, names: Mapping[int, str]) -> _Seen | None:
    """The call of a weight at this node, if it is one."""
    if "shape" not in node.meta:
        return None
    if node.op == "call_module":
        layer = graph.module.get_submodule(str(node.target))
        if isinstance(layer, _ConvTransposeNd) or not isinstance(layer, _ConvNd | nn.Linear):
            return None
        source = next(iter((*node.args, *node.kwargs.values())), None)
        return _seen(node, source, layer.weight, layer.bias, geometry_of_layer(layer), names)
    geometry = geometry_of_call(node) if node.op == "call_function" else None
    if geometry is None:
        return None
    weight, bias = (_parameter(graph, node, i, key) for i, key in ((1, "weight"), (2, "bias")))
    if weight is None or (bias is None and _argument(node, 2, "bias") is not None):
        return None
    return _seen(node, _argument(node, 0, "input"), weight, bias, geometry, names)


def _seen(
    node: fx.Node,
    source: Any,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    geometry: Geometry,
    names: Mapping[int, str],
) -> _Seen | None:
    if not isinstance(source, fx.Node) or "shape" not in source.meta or id(weight) not in names:
        return None
    return _Seen(
        node=node,
        source=source,
        weight=names[id(weight)],
        bias=None if bias is None else names.get(id(bias)),
        geometry=geometry,
        inputs=weight.shape[1] * geometry.groups,
        outputs=weight.shape[0],
    )


def _argument(node: fx.Node, position: int, key: str) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs.get(key)


def _parameter(graph: Graph, node: fx.Node, position: int, key: str) -> nn.Parameter | None:
    """The parameter that an argument is, if it is one as it stands."""
    value = _argument(node, position, key)
    if not isinstance(value, fx.Node) or value.op != "get_attr":
        return None
    owner, _, name = str(value.target).rpartition(".")
    try:
        found = getattr(graph.module.get_submodule(owner), name, None)
    except AttributeError:
        return None
    return found if isinstance(found, nn.Parameter) else None


def _names(module: nn.Module) -> dict[int, str]:
    """The first name of each parameter."""
    return {id(p): name for name, p in module.named_parameters()}


def _readers(graph: Graph, names: Mapping[int, str]) -> dict[str, set[fx.Node]]:
    """Parameter -> the nodes that read it: calls of its layer, users of its attribute."""
    readers: dict[str, set[fx.Node]] = defaultdict(set)
    for node in graph.forwards["eval"].nodes:
        if node.op == "call_module":
            layer = graph.module.get_submodule(str(node.target))
            for parameter in layer.parameters():
                readers[names[id(parameter)]].add(node)
        elif node.op == "get_attr":
            owner, _, name = str(node.target).rpartition(".")
            try:
                value = getattr(graph.module.get_submodule(owner), name, None)
            except AttributeError:
                continue
            if id(value) in names:
                readers[names[id(value)]].update(node.users)
    return readers


def _input_lanes(labels: Labels, weight: str, seen: _Seen) -> IntArray:
    """``[G * I]``: the channel id of each input channel of the layer; -1 where there is none."""
    name = labels.aliases.get(weight, weight)
    lanes = labels.slots.get((name, "in"))
    if lanes is None and seen.geometry.groups == seen.inputs > 1:  # depthwise
        outputs = labels.slots.get((name, 0))
        lanes = None if outputs is None else outputs[:: seen.outputs // seen.inputs]
    if lanes is None and seen.geometry.groups == 1:
        lanes = labels.slots.get((name, 1))
    if lanes is None or len(lanes) != seen.inputs:
        return np.full(seen.inputs, -1, dtype=np.int64)
    return np.asarray(labels.channel_of[lanes])


def _absorbing_norm(
    graph: Graph, labels: Labels, weight: str, calls: tuple[fx.Node, ...]
) -> str | None:
    """The batch norm with running statistics that is all that reads the output of the calls."""
    norms = [_next_norm(graph, call) for call in calls]
    if None in norms or len({str(n.target) for n in norms if n is not None}) != 1:
        return None
    first = norms[0]
    assert first is not None
    norm = graph.module.get_submodule(str(first.target))
    every = {
        node
        for node in graph.forwards["eval"].nodes
        if node.op == "call_module" and graph.module.get_submodule(str(node.target)) is norm
    }
    outputs = labels.slots.get((labels.aliases.get(weight, weight), 0))
    mean = f"{first.target}.running_mean"
    means = labels.slots.get((labels.aliases.get(mean, mean), 0))
    if every != set(norms) or not _in_step(labels, outputs, means):
        return None
    return str(first.target)


def _next_norm(graph: Graph, call: fx.Node) -> fx.Node | None:
    node = call
    while True:
        users = [user for user in node.users if _is_tensor(user)]
        if len(users) != 1:
            return None
        node = users[0]
        if node.op == "call_module":
            layer = graph.module.get_submodule(str(node.target))
            if isinstance(layer, _BatchNorm):
                return node if layer.running_mean is not None else None
            if not isinstance(layer, _STILL):
                return None
        elif _operation(node) not in MOVES:
            return None


def _is_tensor(node: fx.Node) -> bool:
    return node.op == "output" or "shape" in node.meta or "parts" in node.meta


def _operation(node: fx.Node) -> str:
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return str(name).strip("_")


def _in_step(labels: Labels, a: IntArray | None, b: IntArray | None) -> bool:
    """Whether position i of one axis is position i of the other."""
    if a is None or b is None or a.shape != b.shape:
        return False
    if np.array_equal(a, b):
        return True
    roots = labels.channel_of[a]
    return len(np.unique(roots)) == len(roots) and np.array_equal(roots, labels.channel_of[b])
