"""Run operations for their shapes alone: on meta tensors, which hold no data.

What came out once is kept: layers repeat each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import TensorWeakRef

from psvit.capture.program import tensors_in
from psvit.capture.shape_rules import META, RULES, Rule, Shape, elementwise, made

Known = dict[Any, Shape]
"""An operation and what it was given -> what came out."""


class ShapesOnly(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While active, every operation runs on meta tensors.

    A tensor with data has a stand-in, so that nothing can write into it; an operation that
    writes in place gives the very tensor that it was given. ``see`` is called with each
    operation. ``known`` may be shared by several; ``out`` takes a reference to all that came out.
    """

    def __init__(
        self, see: Callable[[Any], None], known: Known, out: list[TensorWeakRef] | None = None
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._see = see
        self._known = known
        self._out = [] if out is None else out
        self._stand_ins: dict[int, torch.Tensor] = {}
        self._originals: dict[int, torch.Tensor] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else PyTorch imports its compiler only to say that it must not compile this

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self._see(func)
        with torch._C.DisableTorchFunction():
            out = self._run(func, args, kwargs or {})
            self._out += [TensorWeakRef(t) for t in tensors_in(out)]
            if isinstance(out, torch.Tensor):
                return self._originals.get(id(out), out)
        return out

    def _run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        kind = _kind(func)
        args = self._without_data(args)
        kwargs = {k: self._without_data(v) for k, v in kwargs.items()}
        if kind.takes_device:
            kwargs["device"] = META
            kwargs.pop("pin_memory", None)
        if kind.in_place and kind.rule:
            kind.rule(func, *args, **kwargs)  # raises if it does not fit
            return args[0]
        question = (func, _described((args, kwargs))) if kind.makes_one else None
        if question is not None and question in self._known:
            return made(self._known[question])
        out = kind.rule(func, *args, **kwargs) if kind.rule else None
        out = func(*args, **kwargs) if out is None else out
        if question is not None:
            self._known[question] = _described(out)
        return out

    def _without_data(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value if value.is_meta else self._stand_in(value)
        if isinstance(value, (tuple, list)):
            return type(value)(self._without_data(v) for v in value)
        return None if isinstance(value, torch.Generator) else value

    def _stand_in(self, tensor: torch.Tensor) -> torch.Tensor:
        found = self._stand_ins.get(id(tensor))
        if found is None:
            found = made(Shape(tuple(tensor.shape), tensor.stride(), tensor.dtype))
            self._stand_ins[id(tensor)] = found
            self._originals[id(found)] = tensor
        return found


@contextmanager
def plain_checks() -> Iterator[None]:
    """Let ``torch._check(True)`` pass by itself, until the block is left.

    Custom operations check their arguments by it, those of neurons too, and it imports a
    symbolic algebra to ask whether True is true: that takes longer than the recording.
    """
    original = torch._check_with

    def check(error_type: Any, condition: Any, message: Any) -> None:
        if condition is not True:
            original(error_type, condition, message)

    torch._check_with = check  # type: ignore[assignment]
    try:
        yield
    finally:
        torch._check_with = original


class _Kind(NamedTuple):
    """Of an operation: whether it takes a device, makes one new tensor, writes into its first."""

    takes_device: bool
    makes_one: bool
    in_place: bool
    rule: Rule | None


@cache
def _kind(func: Any) -> _Kind:
    arguments, returns = func._schema.arguments, func._schema.returns
    single = func.namespace == "aten" and len(returns) == 1 and str(returns[0].type) == "Tensor"
    aliased = [i for i, a in enumerate(arguments) if a.alias_info is not None]
    in_place = single and aliased == [0] and bool(arguments[0].alias_info.is_write)
    makes_one = single and not aliased
    rule = RULES.get(func)
    takes_device = any(a.name == "device" for a in arguments)
    pointwise = torch.Tag.pointwise in func.tags and func is not torch.ops.aten.clone.default
    if pointwise and not takes_device and (makes_one or in_place):
        rule = elementwise
    return _Kind(takes_device, makes_one, in_place, rule)


def _described(value: Any) -> Any:
    """Arguments as a key of a dictionary."""
    if isinstance(value, torch.Tensor):
        return Shape(tuple(value.shape), value.stride(), value.dtype)
    if isinstance(value, (tuple, list)):
        return tuple(_described(v) for v in value)
    if isinstance(value, dict):
        return tuple((k, _described(v)) for k, v in value.items())
    return type(value), value
