"""Record a forward on tensors that have shapes but no data.

A recording needs the order of operations, shapes and dtypes. On meta tensors these come without
arithmetic, and without activations in memory. The model's own tensors are real: wherever an
operation takes one, a stand-in of its shape goes in its place, so nothing can write into them.

A forward that looks at values cannot be recorded so, and has to be run. It is found out, and
``sketch`` gives None, where

- anything raises, as whatever asks a meta tensor for its values or its memory does, also if the
  model then handles the exception itself;
- an operation runs that no recorded call contains (compiled or scripted code), or a call acts
  without giving a tensor: then values might change where the recording does not show it;
- a first forward changes the model for good, or leaves a tensor without data where a later one
  reads it, in the model or outside of it.

What is left is the same program on any data, which running it once could not show.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch
from torch import fx, nn
from torch.utils.weak import TensorWeakRef

from psvit.capture.caches import forget
from psvit.capture.copying import held_tensors
from psvit.capture.einops_ops import Holder, find_einops
from psvit.capture.patches import recording
from psvit.capture.recorder import Recorder, drop_unused_sizes
from psvit.capture.settling import EMPTY, makeup, restored
from psvit.capture.shape_rules import META
from psvit.capture.shapes import ShapesOnly, plain_checks
from psvit.records import Mode

_LOOKS_AT_MEMORY = frozenset(
    ("data_ptr", "storage", "untyped_storage", "numpy", "__array__", "__dlpack__", "type")
)
"""Functions that would give away that a tensor is meta, some of them by a crash."""

_LOOKS_AT_LAYOUT = frozenset(("is_contiguous", "stride"))
"""The order of axes in memory is what kernels choose it to be: not always as it would be here."""


class Unsketchable(Exception):
    """The forward has to be run to be recorded; the message says why."""


@dataclass(frozen=True, eq=False)
class _Held:
    """What the recordings of one model have in common.

    ``shared``: the ids of the tensors that the model holds. ``known``: see ``ShapesOnly``.
    ``einops``: see ``find_einops``; None if it may yet be imported. ``out``: whatever operations
    made.
    """

    shared: frozenset[int]
    constants: dict[int, torch.Tensor] = field(default_factory=dict)
    known: dict[Any, Any] = field(default_factory=dict)
    einops: list[Holder] | None = field(default_factory=lambda: find_einops() or None)
    out: list[TensorWeakRef] = field(default_factory=list)

    def leaks(self, *trees: nn.Module) -> bool:
        """Whether some of that is left outside of the module trees. It is taken out of there."""
        if not self._left(trees):
            return False
        gc.collect()
        left = self._left(trees)
        forget(left)
        return bool(left)

    def _left(self, trees: Sequence[nn.Module]) -> tuple[torch.Tensor, ...]:
        inside = {id(t) for tree in trees for t in held_tensors(tree)}
        alive = (one() for one in self.out)
        return tuple(t for t in alive if t is not None and id(t) not in inside)


@dataclass(frozen=True, eq=False)
class Sketch:
    """Both forwards of a model, recorded without running it.

    ``tree`` is a copy of the module tree that shares its tensors. ``notes``: as ``Graph.fixed``.
    """

    tree: nn.Module
    held: _Held
    forwards: dict[Mode, fx.Graph]
    notes: tuple[str, ...]

    def repeats(self, inputs: Sequence[torch.Tensor], steps: int | None = None) -> bool:
        """Whether the eval forward on inputs like these is the recorded one, call by call.

        Then the recording computes there what the model does. ``steps``: T, where it is an
        attribute of a module. False where it is not known: the forward may depend on values.
        """
        holders = [m for m in self.tree.modules() if type(m.__dict__.get("T")) is int]
        before = [m.__dict__["T"] for m in holders]
        try:
            for module, own in zip(holders, before, strict=True):
                module.__dict__["T"] = own if steps is None else steps
            with _untouched(self.tree):
                again = _record(self.tree, inputs, "eval", self.held)
        except Exception:  # whatever the model raises, running it will show
            return False
        finally:
            for module, own in zip(holders, before, strict=True):
                module.__dict__["T"] = own
        same = same_program(self.forwards["eval"], again.graph)
        del again
        return not self.held.leaks(self.tree) and same


def sketch(root: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Sketch | None:
    """Record both forwards of ``root`` without running them; None where they have to be run.

    ``root`` is left as it is, but for the buffers that hold the constants of the recording.
    """
    shared = {id(t): t for t in held_tensors(root)}
    if any(isinstance(t, EMPTY) or t.device.type != "cpu" for t in (*shared.values(), *inputs)):
        return None  # an accelerator is fast, and its kernels may be custom ones
    held = _Held(frozenset(shared))
    try:
        drawn = _drawn(copy.deepcopy(root, dict(shared)), inputs, held)
    except Exception:  # the run that follows says what is wrong, if anything is
        drawn = None
    if held.leaks(*([drawn.tree] if drawn else [])) or drawn is None:
        return None
    for name, tensor in drawn.tree._buffers.items():
        if name not in root._buffers:
            root.register_buffer(name, tensor)
    return drawn


def _drawn(tree: nn.Module, inputs: tuple[torch.Tensor, ...], held: _Held) -> Sketch:
    with _untouched(tree):
        before = makeup(tree)
        train = _record(tree, inputs, "train", held, settle=True)
        if makeup(tree) != before:
            raise Unsketchable("a first forward changes the model")
        evaluation = _record(tree, inputs, "eval", held)
    notes = dict.fromkeys(train.fixed + evaluation.fixed)
    forwards: dict[Mode, fx.Graph] = {"eval": evaluation.graph, "train": train.graph}
    return Sketch(tree, held, forwards, tuple(notes))


def same_program(a: fx.Graph, b: fx.Graph) -> bool:
    """Whether two recordings are the same calls with the same arguments; sizes read are nodes."""
    twins: dict[fx.Node, fx.Node] = {}
    if len(a.nodes) != len(b.nodes):
        return False
    for x, y in zip(a.nodes, b.nodes, strict=True):
        ours = (x.op, getattr(x.target, "__wrapped__", x.target), x.args, x.kwargs)
        theirs = (y.op, getattr(y.target, "__wrapped__", y.target), y.args, y.kwargs)
        if not _alike(ours, theirs, twins):
            return False
        twins[x] = y
    return True


def _alike(a: Any, b: Any, twins: dict[fx.Node, fx.Node]) -> bool:
    if isinstance(a, fx.Node):
        return twins.get(a) is b
    if type(a) is not type(b):
        return False
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(_alike(x, y, twins) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_alike(a[k], b[k], twins) for k in a)
    if isinstance(a, slice):
        return _alike((a.start, a.stop, a.step), (b.start, b.stop, b.step), twins)
    return a is b or (a == b) is True


def _record(
    tree: nn.Module,
    inputs: Sequence[torch.Tensor],
    mode: Mode,
    held: _Held,
    *,
    settle: bool = False,
) -> SketchRecorder:
    recorder = SketchRecorder(tree, held)
    shapes = [torch.empty_like(x, device=META) for x in inputs]
    with (
        plain_checks(),
        restored(tree, tensors=False, attributes=not settle),
        ShapesOnly(recorder.saw, held.known, held.out),
    ):
        tree.train(mode == "train")
        for i, (x, real) in enumerate(zip(shapes, inputs, strict=True)):
            recorder.register_input(x, i, real.device)
        with recording(recorder, held.einops):
            out = tree(*shapes)
        recorder.graph.output(recorder.argument(out))
    if recorder.refusal is not None:  # the model has caught the exception
        raise Unsketchable(recorder.refusal)
    drop_unused_sizes(recorder.graph)
    return recorder


class SketchRecorder(Recorder):
    """Records as usual, and refuses what cannot be told without data.

    Meta tensors claim to be on the inputs' device. ``refusal``: the first reason why this
    recording cannot be used.
    """

    def __init__(self, root: nn.Module, held: _Held) -> None:
        super().__init__(root, held.constants)
        self._shared = held.shared
        self.refusal: str | None = None

    def refuse(self, why: str) -> NoReturn:
        """Give up this recording."""
        self.refusal = self.refusal or why
        raise Unsketchable(why)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = getattr(func, "__name__", str(func))
        prop = func.__self__.__name__ if name in ("__get__", "__set__") else ""
        if name in _LOOKS_AT_MEMORY or (name == "__set__" and prop == "data"):
            self.refuse(f"{name} {prop}")
        recorded = self.active
        if recorded and name in _LOOKS_AT_LAYOUT:
            self.refuse(name)
        try:
            out = super().__torch_function__(func, types, args, kwargs)
        except Exception as error:
            self.refusal = self.refusal or f"{name}: {error}"
            raise
        if name == "__get__":
            return self._claimed(prop, out)
        if out is None and recorded and name != "__setitem__":
            self.refuse(f"{name} gives no tensor")
        return out

    def _claimed(self, prop: str, value: Any) -> Any:
        """What a property says, as if the tensor had data."""
        if prop == "device" and value == META:
            return self._device
        return {"is_meta": False, "is_cpu": True}.get(prop, value)

    def saw(self, operation: Any) -> None:
        """Each operation that runs comes by here."""
        if self.active:
            self.refuse(f"{operation} runs outside of a recorded call")

    def _constant(self, tensor: torch.Tensor) -> str:
        if id(tensor) not in self._shared:
            self.refuse("a tensor whose origin is not known")
        return super()._constant(tensor)


@contextmanager
def _untouched(tree: nn.Module) -> Iterator[None]:
    """Raise if the tensors that a tree shares with the model have changed, and undo it.

    A forward may hang attributes on a parameter, the one thing about it that it can reach here.
    """
    tensors = list(held_tensors(tree))
    before = [dict(vars(t)) for t in tensors]
    try:
        yield
    finally:
        changed = False
        for tensor, attributes in zip(tensors, before, strict=True):
            changed |= vars(tensor).keys() != attributes.keys()
            vars(tensor).clear()
            vars(tensor).update(attributes)
    if changed:
        raise Unsketchable("the forward leaves attributes on a parameter")
