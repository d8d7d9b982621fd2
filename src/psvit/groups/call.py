"""A node of the graph as a rule sees it: its name, and arguments with sizes as numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from psvit.groups.labelling import Fields, Labelling

Shape = tuple[int, ...]


def operation(node: fx.Node) -> str:
    """The plain name of a node's operation: ``add`` for ``Tensor.__add__`` and ``torch.add``."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "?")
    return name[2:-2] if name.startswith("__") and name.endswith("__") else name


@dataclass(frozen=True)
class Call:
    """One operation. ``args`` and ``kwargs`` hold tensors as nodes and traced sizes as ints."""

    state: Labelling
    node: fx.Node
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @staticmethod
    def of(state: Labelling, node: fx.Node) -> Call:
        """Resolve the arguments of a node."""
        args, kwargs = concrete(node.args), concrete(node.kwargs)
        return Call(state, node, operation(node), args, kwargs)

    @property
    def shape(self) -> Shape:
        """Shape of the (single) result."""
        return tuple(self.node.meta["shape"])

    @property
    def parts(self) -> list[Shape | None] | None:
        """Shapes of the results of an operation that returns several tensors."""
        return self.node.meta.get("parts")

    @property
    def tensors(self) -> list[fx.Node]:
        """Every tensor argument, in order, also those inside lists."""
        return list(_nodes((self.args, self.kwargs)))

    def get(self, position: int, key: str, default: Any = None) -> Any:
        """An argument by position or name."""
        if len(self.args) > position:
            return self.args[position]
        return self.kwargs.get(key, default)

    def fields(self, value: Any) -> Fields:
        """The fields of an argument."""
        return self.state.of(value)

    def replayed(self, substitutes: dict[fx.Node, Any]) -> Any:
        """Run the operation with other tensors in place of its tensor arguments."""

        def swap(value: Any) -> Any:
            if isinstance(value, fx.Node):
                return substitutes[value]
            if isinstance(value, (tuple, list)):
                return type(value)(swap(v) for v in value)
            if isinstance(value, dict):
                return {k: swap(v) for k, v in value.items()}
            if isinstance(value, slice):
                return slice(swap(value.start), swap(value.stop), swap(value.step))
            return value

        args, kwargs = swap(self.args), swap(self.kwargs)
        if self.node.op == "call_method":
            return getattr(args[0], str(self.node.target))(*args[1:], **kwargs)
        function: Any = self.node.target
        return function(*args, **kwargs)


def shape_of(value: Any) -> Shape:
    """Shape of a tensor argument; () for a number."""
    return tuple(value.meta["shape"]) if isinstance(value, fx.Node) else ()


def is_tensor(value: Any) -> bool:
    """Whether an argument is a tensor node."""
    return isinstance(value, fx.Node) and "shape" in value.meta


def concrete(value: Any) -> Any:
    """Arguments with every node that stands for an integer replaced by its value."""
    if isinstance(value, fx.Node):
        if "value" in value.meta:
            return value.meta["value"]
        if "shape" in value.meta or "parts" in value.meta:
            return value
        return torch.device("cpu")  # a device: the only other thing that nodes stand for
    if isinstance(value, (tuple, list)):
        items = [concrete(v) for v in value]
        return tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, dict):
        return {k: concrete(v) for k, v in value.items()}
    if isinstance(value, slice):
        return slice(concrete(value.start), concrete(value.stop), concrete(value.step))
    return value


def _nodes(value: Any) -> Iterator[fx.Node]:
    if is_tensor(value):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _nodes(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _nodes(item)
    elif isinstance(value, slice):
        yield from _nodes((value.start, value.stop, value.step))
