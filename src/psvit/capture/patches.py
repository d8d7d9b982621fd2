"""What torch functions alone do not show, made visible for the time of a recording.

Calls of leaf modules, ``autograd.Function.apply`` (user-written surrogate gradients), buffers
that a forward assigns, ``len(x)``, the attribute ``T``, einops (which caches plain ints) and
compiled code.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from psvit.capture.einops_ops import Holder, serve_einops
from psvit.capture.leaves import is_leaf
from psvit.capture.recorder import Recorder
from psvit.capture.sizes import TracedInt
from psvit.errors import CaptureError


@contextmanager
def uncompiled() -> Iterator[None]:
    """Run what is under ``torch.compile`` as it is written."""
    if "torch._dynamo" not in sys.modules:  # then nothing is, and its import is slow
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


@contextmanager
def recording(recorder: Recorder, einops: list[Holder] | None = None) -> Iterator[None]:
    """While active, everything that the recorder's model does ends up in its graph.

    ``einops``: what ``find_einops`` gives, where it is known.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(uncompiled())
        stack.enter_context(serve_einops(einops))
        stack.enter_context(_module_calls(recorder))
        stack.enter_context(_autograd_functions(recorder))
        stack.enter_context(_assigned_buffers(recorder))
        stack.enter_context(_lengths(recorder))
        stack.enter_context(_time_steps(recorder))
        stack.enter_context(recorder)
        recorder.active = True
        try:
            yield
        finally:
            recorder.active = False


@contextmanager
def _module_calls(recorder: Recorder) -> Iterator[None]:
    original = nn.Module.__call__

    def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        name = recorder.module_names.get(id(module))
        if not recorder.active or name is None or not is_leaf(module, args, kwargs):
            return original(module, *args, **kwargs)
        arguments, keywords = recorder.argument(tuple(args)), recorder.argument(dict(kwargs))
        recorder.active = False
        try:
            out = original(module, *args, **kwargs)
            if isinstance(out, torch.Tensor) and recorder.is_known(out):
                out = out.view_as(out)  # Identity hands back its very input: two nodes, one tensor
        finally:
            recorder.active = True
        recorder.register(out, recorder.emit("call_module", name, arguments, keywords, out))
        return out

    nn.Module.__call__ = call  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.__call__ = original  # type: ignore[method-assign]


@contextmanager
def _autograd_functions(recorder: Recorder) -> Iterator[None]:
    original = torch.autograd.Function.__dict__["apply"]

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        if not recorder.active:
            return original.__func__(cls, *args, **kwargs)
        arguments, keywords = recorder.argument(tuple(args)), recorder.argument(dict(kwargs))
        recorder.active = False
        try:
            out = original.__func__(cls, *args, **kwargs)
        finally:
            recorder.active = True
        function = recorder.autograd_function(cls)
        recorder.register(out, recorder.emit("call_function", function, arguments, keywords, out))
        return out

    torch.autograd.Function.apply = classmethod(apply)  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.autograd.Function.apply = original  # type: ignore[method-assign]


@contextmanager
def _assigned_buffers(recorder: Recorder) -> Iterator[None]:
    """``self.rate = new`` in a forward becomes an in-place copy, so that state stays state."""
    original = nn.Module.__setattr__

    def assign(module: nn.Module, name: str, value: Any) -> None:
        buffer = module.__dict__.get("_buffers", {}).get(name)
        known = id(module) in recorder.module_names
        if not (recorder.active and known and isinstance(value, torch.Tensor)) or (
            buffer is None or value is buffer
        ):
            original(module, name, value)
            return
        recorder.active = False
        try:
            if buffer.shape != value.shape:
                raise CaptureError(
                    f"{recorder.module_names[id(module)]}.{name} changes its shape in the forward "
                    f"({tuple(buffer.shape)} -> {tuple(value.shape)}): run one forward first"
                )
            recorder.active = True
            arguments = (recorder.argument(buffer), recorder.argument(value))
            recorder.active = False
            buffer.copy_(value)
        finally:
            recorder.active = True
        recorder.register(buffer, recorder.emit("call_method", "copy_", arguments, {}, buffer))

    nn.Module.__setattr__ = assign  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        nn.Module.__setattr__ = original  # type: ignore[method-assign]


@contextmanager
def _lengths(recorder: Recorder) -> Iterator[None]:
    """``len(x)`` is ``x.shape[0]``: what Python gives for it has forgotten where it is from."""
    original = builtins.len

    def length(x: Any) -> int:
        if not (recorder.active and isinstance(x, torch.Tensor) and recorder.is_known(x)):
            return original(x)
        return x.shape[0] if x.ndim else original(x)

    builtins.len = length
    try:
        yield
    finally:
        builtins.len = original


@contextmanager
def _time_steps(recorder: Recorder) -> Iterator[None]:
    """An integer attribute ``T`` stays an attribute in the graph, so T can change later."""
    changed: list[tuple[nn.Module, int]] = []
    for module in recorder.root.modules():
        steps = module.__dict__.get("T")
        if type(steps) is int:
            name = f"{recorder.module_names[id(module)]}.T".lstrip(".")
            node = recorder.emit("get_attr", name, (), {}, steps)
            module.__dict__["T"] = TracedInt(steps, node, recorder)
            changed.append((module, steps))
    try:
        yield
    finally:
        for module, steps in changed:
            module.__dict__["T"] = steps
