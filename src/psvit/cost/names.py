"""Names of operations that stay the same when a model is pruned and recorded again.

A layer has its own name. An operation between layers is named after the module that it stands
in: the dotted name which the layers before and after it share, as in ``blocks.0.attn:matmul``.
"""

from __future__ import annotations

from collections import Counter

from torch import fx

from psvit.cost.macs import operation_name


def operation_names(forward: fx.Graph) -> dict[fx.Node, str]:
    """A unique name for every node that calls something; "#2" marks the second of a name."""
    nodes = list(forward.nodes)
    following: list[str] = []
    name = ""
    for node in reversed(nodes):
        name = str(node.target) if node.op == "call_module" else name
        following.append(name)
    following.reverse()
    names: dict[fx.Node, str] = {}
    used: Counter[str] = Counter()
    before = ""
    for node, after in zip(nodes, following, strict=True):
        if node.op == "call_module":
            before = str(node.target)
            base = before or "model"
        elif node.op in ("call_function", "call_method"):
            called = operation_name(node) or str(getattr(node.target, "__name__", node.name))
            scope = _shared(before, after)
            base = f"{scope}:{called}" if scope else called
        else:
            continue
        used[base] += 1
        names[node] = base if used[base] == 1 else f"{base}#{used[base]}"
    return names


def _shared(one: str, other: str) -> str:
    """The dotted name of the innermost module that holds both layers."""
    parts = []
    for a, b in zip(one.split(".")[:-1], other.split(".")[:-1], strict=False):
        if a != b:
            break
        parts.append(a)
    return ".".join(parts)
