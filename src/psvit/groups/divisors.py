"""Which parameters something is divided by: the zeroed reference leaves them as they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import fx

from psvit.groups.call import operation

_DIVISIONS = {"div", "truediv", "true_divide", "div_", "itruediv", "floordiv", "divide"}
_RECIPROCALS = {"rtruediv", "reciprocal"}


def divisors_of(forward: fx.Graph) -> set[str]:
    """Parameters and buffers that a divisor is computed from, and running variances."""
    found: set[str] = set()
    seen: set[fx.Node] = set()
    stack = [d for node in forward.nodes for d in _divisors(node)]
    while stack:
        node = stack.pop()
        if not isinstance(node, fx.Node) or node in seen:
            continue
        if node.op in ("placeholder", "call_module"):
            continue
        seen.add(node)
        if node.op == "get_attr":
            found.add(str(node.target))
        stack += node.all_input_nodes
    return found


def _divisors(node: fx.Node) -> Iterator[Any]:
    if node.op not in ("call_function", "call_method"):
        return
    name = operation(node)
    if name in _RECIPROCALS:
        yield node.args[0]
    elif name in _DIVISIONS:
        yield from node.args[1:2]
        yield node.kwargs.get("other")
    elif name == "batch_norm":
        variance = node.args[2] if len(node.args) > 2 else node.kwargs.get("running_var")
        if isinstance(variance, fx.Node) and variance.op == "get_attr":
            yield variance
