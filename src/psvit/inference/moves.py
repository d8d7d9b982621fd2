"""Operations that move the elements of a tensor about and change none."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, fx

MOVES = frozenset(
    {
        *("flatten", "unflatten", "view", "reshape", "squeeze", "unsqueeze"),
        *("transpose", "permute", "movedim", "moveaxis", "swapaxes", "swapdims"),
        *("contiguous", "clone", "detach"),
    }
)
"""As functions and as methods."""
_COPIES = frozenset({"contiguous", "clone"})


def operation(node: fx.Node) -> str:
    """The name of the function or method that a node calls; empty for other nodes."""
    target = node.target
    if node.op == "call_function":
        return str(getattr(target, "__name__", ""))
    return str(target) if node.op == "call_method" else ""


def moved(node: fx.Node, source: fx.Node, values: Tensor) -> Tensor | None:
    """What a node that moves makes of ``values`` in the place of ``source``.

    None if it needs what is not known before a forward, or cannot take them.
    """
    unknown = False

    def value(argument: fx.Node) -> Any:
        nonlocal unknown
        if argument is source:
            return values
        unknown = unknown or "value" not in argument.meta
        return argument.meta.get("value")

    args, kwargs = fx.node.map_arg((node.args, node.kwargs), value)
    if unknown:
        return None
    try:
        if node.op == "call_method":
            out = getattr(args[0], str(node.target))(*args[1:], **kwargs)
        else:
            out = node.target(*args, **kwargs)  # type: ignore[operator]
    except (RuntimeError, ValueError, TypeError, IndexError):
        return None
    return out if isinstance(out, Tensor) else None


def drop_round_trips(forward: fx.Graph) -> int:
    """Read a value itself where views of it lead back to it, in place; how many did.

    Such as ``x.unflatten(0, (T, B)).flatten(0, 1)``, when a norm in between is gone: what compiles
    for any batch size does not see through it.
    """
    count = 0
    for node in list(forward.nodes):
        start = _returned_to(node) if operation(node) in MOVES - _COPIES else None
        if start is not None:
            node.replace_all_uses_with(start)
            forward.erase_node(node)
            count += 1
    return count


def _returned_to(node: fx.Node) -> fx.Node | None:
    """The value that a move ends a round trip at; None if it ends none."""
    chain = [node]
    while operation(chain[0]) in MOVES - _COPIES:
        source = next(iter(chain[0].args), None)
        if not isinstance(source, fx.Node) or "shape" not in source.meta:
            return None
        chain.insert(0, source)
        if source.meta["shape"] == node.meta.get("shape") and _is_identity(chain):
            return source
    return None


def _is_identity(chain: list[fx.Node]) -> bool:
    shape = chain[0].meta["shape"]
    labels: Tensor | None = torch.arange(math.prod(shape)).view(shape)
    start = labels
    for before, node in pairwise(chain):
        labels = None if labels is None else moved(node, before, labels)
    return labels is not None and start is not None and torch.equal(labels, start)
