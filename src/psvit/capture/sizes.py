"""Integers that remember where they came from.

``x.shape`` of a recorded tensor hands these out, so that ``B * T`` or ``C // heads`` in a
model's forward becomes nodes of the graph instead of a number.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Protocol

from torch import fx


class SizeRecorder(Protocol):
    """What a TracedInt needs of the recording that made it."""

    active: bool

    def emit(
        self, op: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], value: Any
    ) -> fx.Node:
        """Append a node whose value at the example is ``value``."""


class TracedInt(int):
    """An int with the graph node that computes it. Copies and pickles as a plain int."""

    node: fx.Node
    recorder: SizeRecorder

    def __new__(cls, value: int, node: fx.Node, recorder: SizeRecorder) -> TracedInt:
        self = super().__new__(cls, value)
        self.node = node
        self.recorder = recorder
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> int:
        return int(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return (int, (int(self),))


class Repeated(list[Any]):
    """``[x] * B``: a list that remembers what was repeated, and by which size."""

    def __init__(self, items: list[Any], times: TracedInt) -> None:
        super().__init__(items * int(times))
        self.items = items
        self.times = times

    @property
    def whole(self) -> bool:
        """Whether it still is what it was made as."""
        return len(self) == len(self.items) * int(self.times)


def untraced(value: Any) -> Any:
    """The node of a TracedInt; any other value as it is."""
    return value.node if isinstance(value, TracedInt) else value


def _traced(name: str, function: Callable[[Any, Any], Any], reflected: bool) -> Any:
    plain = getattr(int, name)

    def method(self: TracedInt, other: Any) -> Any:
        if type(other) is list and function is operator.mul and self.recorder.active:
            return Repeated(other, self)
        value = plain(self, other)
        if type(value) is not int or not isinstance(other, int) or not self.recorder.active:
            return value
        args = (untraced(other), self.node) if reflected else (self.node, untraced(other))
        node = self.recorder.emit("call_function", function, args, {}, value)
        return TracedInt(value, node, self.recorder)

    return method


SIZE_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "floordiv": operator.floordiv,
    "mod": operator.mod,
}

for _name, _function in SIZE_ARITHMETIC.items():
    setattr(TracedInt, f"__{_name}__", _traced(f"__{_name}__", _function, reflected=False))
    setattr(TracedInt, f"__r{_name}__", _traced(f"__r{_name}__", _function, reflected=True))
