"""Operations that move the elements of a tensor about and change none."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx

MOVES = frozenset(
    {
        *("flatten", "unflatten", "view", "reshape", "squeeze", "unsqueeze"),
        *("transpose", "permute", "movedim", "moveaxis", "swapaxes", "swapdims"),
        *("contiguous", "clone", "detach"),
    }
)
"""As functions and as methods."""


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
