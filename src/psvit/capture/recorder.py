"""Records every torch call of a forward that runs on real tensors.

Real tensors pass each ``isinstance``, ``len`` and ``if`` of a model, so nothing has to be
traceable: what runs is what is recorded. Parameters and buffers become ``get_attr`` nodes,
leaf modules ``call_module`` nodes, other tensors that the model holds constants.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from psvit.capture.settling import EMPTY
from psvit.capture.sizes import SIZE_ARITHMETIC, Repeated, TracedInt
from psvit.errors import CaptureError

_READS_DATA = {"item", "tolist", "numpy", "__bool__", "__int__", "__float__", "__index__"}
_METHOD_TYPES = ("method_descriptor", "wrapper_descriptor")


class Recorder(TorchFunctionMode):
    """A torch-function mode that appends a node for each call; see the module docstring.

    ``constants`` keeps the model's unregistered tensors alive from one recording to the next.
    ``fixed`` collects, in words, what was read out of a tensor and so became a constant.
    """

    def __init__(self, root: nn.Module, constants: dict[int, torch.Tensor]) -> None:
        super().__init__()
        self.root = root
        self.constants = constants
        self.graph = fx.Graph()
        self.active = False
        self.fixed: list[str] = []
        self.module_names: dict[int, str] = {}
        for name, module in root.named_modules():
            self.module_names.setdefault(id(module), name)
        self._names: dict[int, str] = {}
        for name, tensor in [*root.named_parameters(), *root.named_buffers()]:
            self._names.setdefault(id(tensor), name)
        self._bases = {
            tensor.untyped_storage().data_ptr(): (name, tensor)
            for name, tensor in [*root.named_parameters(), *root.named_buffers()]
            if not isinstance(tensor, EMPTY) and tensor.numel()
        }
        self._nodes: Any = WeakIdKeyDictionary()
        self._shape_nodes: dict[fx.Node, tuple[fx.Node, ...]] = {}
        self._functions: dict[type, Any] = {}
        self._device_node: fx.Node | None = None
        self._device: torch.device | None = None

    # -- nodes

    def emit(
        self, op: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], value: Any
    ) -> fx.Node:
        """Append a node; ``value`` is what it evaluated to."""
        node = self.graph.create_node(op, target, args, kwargs)
        if isinstance(value, torch.Tensor):
            node.meta["shape"] = _shape(value)
            node.meta["dtype"] = value.dtype
        elif type(value) is int:
            node.meta["value"] = value
        return node

    def register(self, value: Any, node: fx.Node) -> None:
        """Remember that ``node`` computed ``value`` (a tensor, or a sequence of them)."""
        if isinstance(value, torch.Tensor):
            self._nodes[value] = node
            node.meta["shape"] = _shape(value)
            node.meta["dtype"] = value.dtype
        elif isinstance(value, (tuple, list)):
            node.meta["parts"] = [_shape(v) if isinstance(v, torch.Tensor) else None for v in value]
            for i, item in enumerate(value):
                if _holds_tensor(item):
                    item_node = self.emit("call_function", operator.getitem, (node, i), {}, item)
                    self.register(item, item_node)
        elif isinstance(value, dict):
            for key, item in value.items():
                if _holds_tensor(item):
                    item_node = self.emit("call_function", operator.getitem, (node, key), {}, item)
                    self.register(item, item_node)

    def register_input(
        self, tensor: torch.Tensor, index: int, device: torch.device | None = None
    ) -> None:
        """A placeholder for a forward's input, which is on ``device`` if not on its own."""
        node = self.graph.placeholder(f"x{index}")
        self.register(tensor, node)
        if self._device_node is None:
            self._device, self._device_node = device or tensor.device, node

    def is_known(self, tensor: torch.Tensor) -> bool:
        """Whether some node stands for this very tensor already."""
        return tensor in self._nodes

    def argument(self, value: Any) -> Any:
        """A call's argument as it goes into the graph."""
        if isinstance(value, torch.Tensor):
            return self._nodes[value] if value in self._nodes else self._held(value)
        if isinstance(value, TracedInt):
            return value.node
        if isinstance(value, torch.Size):
            return tuple(self.argument(v) for v in value)
        if isinstance(value, tuple):
            items = [self.argument(v) for v in value]
            return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
        if isinstance(value, list):
            return [self.argument(v) for v in value]
        if isinstance(value, dict):
            return {k: self.argument(v) for k, v in value.items()}
        if isinstance(value, slice):
            return slice(*(self.argument(v) for v in (value.start, value.stop, value.step)))
        if isinstance(value, np.generic):  # generated code cannot say np.float64(0.5)
            return value.item()
        if isinstance(value, torch.device) and value == self._device and self._device_node:
            # follow the input's device, so that the recording can be moved
            return self.emit("call_function", getattr, (self._device_node, "device"), {}, None)
        return value

    def _held(self, tensor: torch.Tensor) -> fx.Node:
        """A tensor that the model holds: a parameter, a view of one, or a constant."""
        name = self._names.get(id(tensor))
        if name is None:
            base = self._bases.get(tensor.untyped_storage().data_ptr()) if tensor.numel() else None
            if base is not None:
                return self._view_of_parameter(tensor, *base)
            if tensor.grad_fn is not None:
                raise CaptureError(
                    f"a tensor of shape {_shape(tensor)} was computed where psvit cannot see it "
                    "(scripted code, or code outside torch): remove torch.jit from the forward"
                )
            name = self._constant(tensor)
        node = self.emit("get_attr", name, (), {}, tensor)
        self._nodes[tensor] = node
        return node

    def _constant(self, tensor: torch.Tensor) -> str:
        """Register a tensor that the model merely holds; it stays the very same object."""
        name = f"constant_{sum(k.startswith('constant_') for k in self.root._buffers)}"
        self.root.register_buffer(name, tensor)
        self._names[id(tensor)] = name
        self.constants[id(tensor)] = tensor
        return name

    def _view_of_parameter(self, view: torch.Tensor, name: str, base: torch.Tensor) -> fx.Node:
        node: fx.Node = self.argument(base)
        if view.shape == base.shape and view.stride() == base.stride():
            return node
        ranges = _narrowing(view, base)
        if ranges is None:
            args = (node, _shape(view), tuple(view.stride()), view.storage_offset())
            out = self.emit("call_function", torch.as_strided, args, {}, view)
        else:
            index = tuple(slice(a, b) for a, b in ranges)
            out = self.emit("call_function", operator.getitem, (node, index), {}, view)
        self._nodes[view] = out
        return out

    # -- torch calls

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if not self.active:
            return func(*args, **kwargs)
        name = getattr(func, "__name__", str(func))
        self.active = False
        try:
            out = func(*args, **kwargs)
        finally:
            self.active = True
        if name == "__get__":
            return self._attribute(func, args[0], out)
        if name == "size" and isinstance(args[0], torch.Tensor):
            sizes = self._sizes(args[0])
            dim = args[1] if len(args) > 1 else kwargs.get("dim")
            return sizes if dim is None else sizes[dim]
        if name in ("numel", "nelement"):
            node = self.emit("call_method", name, (self.argument(args[0]),), {}, out)
            return TracedInt(out, node, self)
        if name == "__setitem__":
            arguments = tuple(self.argument(a) for a in args)
            self.emit("call_function", operator.setitem, arguments, {}, None)
            return out
        if not _holds_tensor(out):
            if name in _READS_DATA and self._computed(args[0]):
                self.fixed.append(f"a value that the forward reads from its data ({name})")
            return out
        self._call(func, name, args, kwargs, out)
        return out

    def _call(self, func: Any, name: str, args: Any, kwargs: Any, out: Any) -> None:
        if name in _JOINS and args and isinstance(args[0], Repeated):
            func, name, args, kwargs = _repetition(func, name, args, kwargs)
        if not args and "input" in kwargs:  # one form for the rules: the input comes first
            args, kwargs = (kwargs["input"],), {k: v for k, v in kwargs.items() if k != "input"}
        arguments, keywords = self.argument(tuple(args)), self.argument(dict(kwargs))
        qualified = getattr(func, "__qualname__", "")
        is_method = type(func).__name__ in _METHOD_TYPES or qualified.startswith(
            ("TensorBase.", "Tensor.", "_TensorBase.")
        )
        if is_method and isinstance(args[0], torch.Tensor):
            node = self.emit("call_method", name, arguments, keywords, out)
        else:
            node = self.emit("call_function", func, arguments, keywords, out)
        self.register(out, node)

    def _attribute(self, func: Any, tensor: torch.Tensor, out: Any) -> Any:
        name = func.__self__.__name__
        if name == "shape":
            return self._sizes(tensor)
        if not isinstance(out, torch.Tensor):
            return out
        if name == "data" and id(tensor) in self._names:
            self._nodes[out] = self.argument(tensor)
            return out
        node = self.emit("call_function", getattr, (self.argument(tensor), name), {}, out)
        self.register(out, node)
        return out

    def _sizes(self, tensor: torch.Tensor) -> torch.Size:
        source = self.argument(tensor)
        shape = _shape(tensor)
        nodes = self._shape_nodes.get(source)
        if nodes is None:
            whole = self.emit("call_function", getattr, (source, "shape"), {}, None)
            nodes = tuple(
                self.emit("call_function", operator.getitem, (whole, i), {}, size)
                for i, size in enumerate(shape)
            )
            self._shape_nodes[source] = nodes
        return torch.Size(
            [TracedInt(size, node, self) for size, node in zip(shape, nodes, strict=True)]
        )

    def _computed(self, value: Any) -> bool:
        node = self._nodes.get(value) if isinstance(value, torch.Tensor) else None
        return node is not None and node.op != "get_attr"

    def autograd_function(self, function: type[torch.autograd.Function]) -> Any:
        """A plainly named stand-in for ``function.apply``, which generated code cannot name."""
        if function not in self._functions:

            def apply(*args: Any, **kwargs: Any) -> Any:
                return function.apply(*args, **kwargs)  # type: ignore[no-untyped-call]

            apply.__name__ = apply.__qualname__ = function.__name__
            apply.__module__ = "psvit_recorded"
            apply.__wrapped__ = function  # type: ignore[attr-defined]
            self._functions[function] = apply
        return self._functions[function]


_JOINS = ("cat", "concat", "concatenate")


def _repetition(func: Any, name: str, args: Any, kwargs: Any) -> tuple[Any, str, Any, Any]:
    """``cat([x] * B, dim)`` as ``x.repeat(1, B, 1)``, for any B; another call as it is."""
    joined: Repeated = args[0]
    alone = len(joined.items) == 1 and joined.whole
    if not alone or set(kwargs) - {"dim", "axis"}:
        return func, name, args, kwargs
    tensor = joined.items[0]
    dim = args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("axis", 0))
    sizes: list[Any] = [1] * tensor.ndim
    sizes[dim] = joined.times
    return torch.Tensor.repeat, "repeat", (tensor, *sizes), {}


def drop_unused_sizes(graph: fx.Graph) -> None:
    """Erase size arithmetic that nothing reads. Other nodes may act in place: they stay."""
    arithmetic = (getattr, operator.getitem, *SIZE_ARITHMETIC.values())
    for node in reversed(list(graph.nodes)):
        removable = node.op == "get_attr" or (
            node.op == "call_function" and node.target in arithmetic
        )
        if removable and not node.users:
            graph.erase_node(node)


def _shape(tensor: torch.Tensor) -> tuple[int, ...]:
    with torch._C.DisableTorchFunction():
        return tuple(tensor.shape)


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return any(_holds_tensor(v) for v in value)
    if isinstance(value, dict):
        return any(_holds_tensor(v) for v in value.values())
    return isinstance(value, torch.Tensor)


def _narrowing(view: torch.Tensor, base: torch.Tensor) -> list[tuple[int, int]] | None:
    """The range of ``base`` on each axis that ``view`` is, or None if it is no such view."""
    if view.ndim != base.ndim or view.stride() != base.stride() or not base.is_contiguous():
        return None
    offset, ranges = int(view.storage_offset() - base.storage_offset()), []
    for size, stride in zip(view.shape, base.stride(), strict=True):
        start, offset = divmod(offset, stride) if stride else (0, offset)
        ranges.append((start, start + size))
    fits = all(stop <= size for (_, stop), size in zip(ranges, base.shape, strict=True))
    return ranges if fits and offset == 0 else None
