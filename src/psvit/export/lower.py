"""From a model to a program of plain tensor operations, without state, for any batch size.

The recorded eval forward with batch norms folded and plain neurons unrolled (``for_inference``)
goes through ``torch.export``; other stateful neurons run inside it as they are, from rest, and what
SpikingJelly calls as operators of its own becomes the PyTorch code that it holds for them.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx, nn
from torch.export import Dim, ExportedProgram

from psvit.capture import capture
from psvit.errors import ModelError
from psvit.inference import for_inference
from psvit.neurons import reset_state
from psvit.records import Graph

INPUT, OUTPUT, BATCH = "images", "logits", "batch"
ROOM = 4
"""Images beyond the largest number, for which memory is planned too."""
QUIETED = ("torch.onnx", "torch.export", "torch._export", "torch.utils._pytree", "torchao")
"""Loggers of exporters, and of what they import."""


class AtRest(nn.Module):
    """``model`` from neurons at rest, left at rest: images ``[B, ...]`` -> logits ``[B, K]``."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The first output; its mean over T, if it has one for each time step."""
        reset_state(self.model)
        output = self.model(images)
        reset_state(self.model)  # nothing computed may stay behind in an attribute
        while isinstance(output, tuple | list):
            output = output[0]
        logits: torch.Tensor = output
        return logits.mean(0) if logits.ndim == 3 else logits


def simplified(model: nn.Module, example: torch.Tensor) -> Graph:
    """The recorded eval forward, norms folded, plain neurons unrolled; ``model`` is not touched.

    Raises ModelError if the batch size is fixed in it.
    """
    graph = capture(model, example)
    fixed = [text for text in graph.fixed if text.startswith("axis 0")]
    if fixed:
        raise ModelError(
            f"{type(model).__name__} cannot be exported for any batch size: {fixed[0]}, because "
            "its forward has that number in it; let it read the size from its input"
        )
    return for_inference(graph)


def trace(simple: nn.Module, example: torch.Tensor, largest: int | None = None) -> ExportedProgram:
    """A program of PyTorch's own operators, for any number of images, or for up to ``largest``.

    ``simple``: what ``simplified`` or ``psvit.faster`` gave. ``example``: images ``[B, C, H, W]``,
    B >= 2, on the CPU. Raises ModelError that names the layer if some part of it cannot be traced,
    or is an operator of another library without a form in PyTorch's.
    """
    module = AtRest(simple).eval()
    bound = None
    if largest is not None:
        # Lowering may take it that a size is what it was at the example, more or less: then there
        # is room above it, and all below needs no more memory.
        example = example[:1].expand(largest, *example.shape[1:]).contiguous()
        bound = largest + ROOM
    try:
        with torch.no_grad(), quiet():
            program = torch.export.export(
                module, (example,), dynamic_shapes=({0: Dim(BATCH, max=bound)},), strict=False
            )
            program = _without_foreign(program)
    except ModelError:
        raise
    except Exception as error:  # tracing runs the model's own code, which raises anything
        name = getattr(simple, "original_class", type(simple).__qualname__)
        mixed = _first_across_images(simple, example)
        if mixed is not None:
            raise ModelError(f"{name} cannot be exported for any batch size: {mixed}") from error
        raise ModelError(
            f"{name} cannot be exported: torch.export fails on it "
            f"({type(error).__name__}: {first_line(error)})"
        ) from error
    return program


def _first_across_images(simple: nn.Module, example: torch.Tensor) -> str | None:
    """Which neuron layer takes images for time steps, in words; None if none does."""
    lengths: dict[str, list[int]] = {}
    handles = [
        module.register_forward_pre_hook(
            lambda _, args, name=name: lengths.setdefault(name, []).append(len(args[0]))
        )
        for name, module in simple.named_modules()
        if hasattr(module, "v_threshold") and getattr(module, "step_mode", "m") == "m"
    ]
    try:
        with torch.no_grad():
            for images in (example, torch.cat([example, example[:1]])):
                reset_state(simple)
                simple(images)
    finally:
        reset_state(simple)
        for handle in handles:
            handle.remove()
    for name, (first, *_, last) in lengths.items():
        if first != last:
            return (
                f"the neurons {name} take {first} time steps from {len(example)} images and {last} "
                f"from {len(example) + 1}, so that they go on from one image to the next; give "
                "them [T, B, ...]"
            )
    return None


def _without_foreign(program: ExportedProgram) -> ExportedProgram:
    """The program with other libraries' operators replaced by the PyTorch code they stand for."""
    table: dict[Any, Callable[..., Any]] = {}
    for node in _operators(program):
        if node.target.namespace not in ("aten", "prims") and node.target not in table:
            reference = _reference(node.target)
            if reference is None:
                raise unsupported(node, "torch.export")
            table[node.target] = reference
    return program.run_decompositions(table) if table else program


def _operators(program: ExportedProgram) -> Iterator[Any]:
    for node in program.graph.nodes:
        if node.op == "call_function" and hasattr(node.target, "namespace"):
            yield node


def _reference(operator: Any) -> Callable[..., Any] | None:
    """SpikingJelly's own definition of one of its operators, such as ``sj_plif::forward``."""
    family, name = operator.namespace, operator._opname
    if not family.startswith("sj_") or name != "forward":
        return None
    # `if` cannot be the name of a module: the folder is called `if_`.
    for folder in (family.removeprefix("sj_"), family.removeprefix("sj_") + "_"):
        try:
            module = importlib.import_module(f"spikingjelly._ops.{folder}.cpu")
        except ImportError:
            continue
        found: Callable[..., Any] | None = getattr(module, "_forward_impl", None)
        return found
    return None


def unsupported(node: fx.Node, target: str) -> ModelError:
    """The error for an operator that ``target`` has no form of; names operator and layer."""
    return ModelError(
        f"{target} has no form of the operator {operator_of(node)} in {layer_of(node)}: "
        "export to another format, or replace the operator in the model"
    )


def operator_of(node: fx.Node) -> str:
    """As PyTorch writes it: ``aten.matmul.default``, or the name of a function."""
    return str(node.target) if hasattr(node.target, "namespace") else str(node.name)


def layer_of(node: fx.Node) -> str:
    """The innermost layer that a node was traced in, or near."""
    position: fx.Node | None = node
    while position is not None and position.op != "root":
        stack = position.meta.get("nn_module_stack") or {}
        paths = [path.partition("model.")[2] for path, _ in stack.values()]
        if paths and paths[-1]:
            return paths[-1] if position is node else f"the forward, after {paths[-1]}"
        position = position.prev if position.prev.op != "root" else None
    return "the forward"


def first_line(error: BaseException) -> str:
    """Of an error's text, which may be a page long."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else "no message"


@contextmanager
def quiet() -> Iterator[None]:
    """Exporters warn about their own workings, which is no news to who exports a model."""
    loggers = [logging.getLogger(name) for name in QUIETED]
    levels = [one.level for one in loggers]
    try:
        for one in loggers:
            one.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
