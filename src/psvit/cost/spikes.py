"""Which tensors are spikes, judged by their values and by where they come from.

A tensor is spikes if in every batch seen

- each value is 0 or 1, wherever it comes from; or
- each is a whole number, at most ``MAX_LEVEL``, of one unit, and it comes from a neuron, or from
  rounding, through moves and constant scalings only. So are the outputs of integer neurons (k or
  k / D), of ternary ones, and spikes times a constant, which hardware folds into the weights.

A value of k units counts as k spikes: an integer neuron fires them one after the other. A sum of
spikes (an ADD shortcut, a product of spikes that no neuron follows) holds whole numbers too, but
it is a number of several bits that has to be multiplied: it is no spikes.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import torch
from torch import fx, nn

from psvit.cost.macs import operation_name
from psvit.records import Graph

MAX_LEVEL = 16
"""More levels than this are a quantised number rather than spikes."""
TOLERANCE = 1e-3
"""How far a value may lie from a whole number of units (k / D is rounded in floating point)."""

ROUNDING = frozenset(
    {"round", "floor", "ceil", "trunc", "sign", "heaviside", "bernoulli"}
    | {"gt", "ge", "lt", "le", "eq", "ne", "greater", "greater_equal", "less", "less_equal"}
)
"""Operations from which whole numbers come; a user's own autograd function is taken for one."""

MOVES = frozenset(
    {"view", "reshape", "flatten", "unflatten", "transpose", "permute", "contiguous", "clone"}
    | {"squeeze", "unsqueeze", "expand", "expand_as", "repeat", "repeat_interleave", "getitem"}
    | {"chunk", "split", "unbind", "select", "narrow", "movedim", "swapaxes", "roll", "flip", "t"}
    | {"cat", "concat", "stack", "pad", "detach", "to", "type_as", "float", "double", "dropout"}
    | {"max_pool1d", "max_pool2d", "max_pool3d", "adaptive_max_pool2d", "unfold", "getattr"}
)
"""Operations whose results hold the values of their inputs, and perhaps zeros."""

SCALINGS = frozenset({"mul", "rmul", "div", "truediv", "multiply", "divide"})
"""They keep whole multiples of a unit if the other factor is a number."""

_MOVING_LAYERS = (
    nn.Identity,
    nn.modules.dropout._DropoutNd,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.modules.padding._ConstantPadNd,
)


@dataclass
class Seen:
    """What has been seen of one tensor, batch by batch. ``sizes``: its magnitudes if spikes."""

    from_neuron: bool
    spikes: bool = True
    sizes: frozenset[float] = frozenset()
    nonzero: int = 0
    elements: int = 0

    @property
    def rate(self) -> float:
        """Share of values that are not 0."""
        return self.nonzero / max(self.elements, 1)

    @property
    def worth(self) -> float:
        """Magnitude of one spike; 1 if there was none."""
        return _unit(self.sizes) if self.sizes else 1.0

    def look(self, x: torch.Tensor) -> None:
        """Take note of the values of one batch."""
        nonzero = int(x.count_nonzero())
        self.nonzero += nonzero
        self.elements += x.numel()
        if not self.spikes or nonzero == 0:
            return
        if x.dtype == torch.bool or bool(((x == 0) | (x == 1)).all()):
            self.sizes |= {1.0}
        elif self.from_neuron:
            self.sizes |= frozenset(torch.unique(x.abs()).tolist()) - {0.0}
        else:
            self.spikes = False
        self.spikes = self.spikes and _are_levels(self.sizes)


def _are_levels(sizes: frozenset[float]) -> bool:
    """Whether all are whole multiples of one unit, at most MAX_LEVEL of it."""
    if len(sizes) > 2 * MAX_LEVEL or not all(isfinite(size) for size in sizes):
        return False  # one level may come in two roundings
    unit = _unit(sizes)
    levels = [size / unit for size in sizes]
    whole = all(abs(level - round(level)) < TOLERANCE * MAX_LEVEL for level in levels)
    return whole and max(levels) < MAX_LEVEL + 0.5


def _unit(sizes: frozenset[float]) -> float:
    """The greatest common divisor, up to rounding errors: Euclid's algorithm."""
    smallest = min(sizes)
    unit = smallest
    for size in sorted(sizes):
        a, b = size, unit
        while b > TOLERANCE * smallest:
            rest = a % b
            a, b = b, min(rest, b - rest)
        unit = a
    return unit


def is_neuron(module: nn.Module) -> bool:
    """A neuron layer of SpikingJelly, or one written like it: it has a threshold."""
    names = {base.__name__ for base in type(module).__mro__}
    return "BaseNode" in names or hasattr(module, "v_threshold")


def is_source(graph: Graph, node: fx.Node) -> bool:
    """Whether whole numbers are made here: a neuron, a rounding, a user's autograd function."""
    if node.op == "call_module":
        return is_neuron(graph.module.get_submodule(str(node.target)))
    own = node.op == "call_function" and getattr(node.target, "__module__", "") == "psvit_recorded"
    return own or operation_name(node) in ROUNDING


def comes_from_neuron(graph: Graph, node: fx.Node) -> bool:
    """Whether every value of ``node`` is one that a source made, moved or scaled since."""
    pending, seen = [node], {node}
    while pending:
        current = pending.pop()
        if is_source(graph, current):
            continue
        tensors = [n for n in current.all_input_nodes if "shape" in n.meta or "parts" in n.meta]
        if not tensors or not _moves(graph, current, tensors):
            return False
        pending += [n for n in tensors if n not in seen]
        seen.update(tensors)
    return True


def _moves(graph: Graph, node: fx.Node, tensors: list[fx.Node]) -> bool:
    if node.op == "call_module":
        return isinstance(graph.module.get_submodule(str(node.target)), _MOVING_LAYERS)
    name = operation_name(node)
    return name in MOVES or (name in SCALINGS and len(tensors) == 1)
