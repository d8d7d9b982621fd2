"""Multiply-accumulates (MACs) of one image over all T steps, as if every value were dense.

Convention. Counted: convolutions, linear layers, matrix products, einsum and attention, and how
parallel neurons mix time steps, each by one entry of ``MAC_RULES``. Not counted (0): elementwise
operations, normalisation, pooling, other neurons, softmax, bias. A multiplication with zero
padding counts, as in a dense implementation.

An *image* is one element of the batch. A product in which no input takes part (a kernel put
together from parameters at each call) is counted once, not per image.

T steps, B batch, N tokens, C channels, L queries, S keys, E width of a query.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import fx, nn
from torch.nn.modules.batchnorm import _NormBase

from psvit.cost.einsum import einsum_macs
from psvit.cost.tensors import Shape, Tensors
from psvit.groups import kept_shape
from psvit.records import Field, Graph, Labels


@dataclass(frozen=True, eq=False)
class Call:
    """One operation with sizes: of its output, of its weight if it is a layer, of any operand."""

    node: fx.Node
    out: Shape
    weight: Shape
    sizes: Callable[[fx.Node], Shape]

    def operand(self, position: int, *names: str) -> Shape:
        """Sizes of the tensor given at ``position`` or under one of ``names``."""
        return self.sizes(self.value(position, *names))

    def value(self, position: int, *names: str) -> Any:
        """The argument at ``position`` or under one of ``names``."""
        if position < len(self.node.args):
            return self.node.args[position]
        return next((self.node.kwargs[name] for name in names if name in self.node.kwargs), None)


Rule = Callable[[Call], int]


def _conv(out: Shape, weight: Shape) -> int:
    """Each output sums over its inputs and kernel: weight is ``[out, in / groups, *kernel]``."""
    return prod(out) * prod(weight[1:])


def _conv_transposed(inputs: Shape, weight: Shape) -> int:
    """Each input spreads over outputs and kernel: weight is ``[in, out / groups, *kernel]``."""
    return prod(inputs) * prod(weight[1:])


def _attention(call: Call) -> int:
    """query ``[..., L, E]``, key ``[..., S, E]``, value ``[..., S, V]``: scores, then the mix."""
    query, key = call.operand(0, "query"), call.operand(1, "key")
    return prod(query) * key[-2] + prod(call.out) * key[-2]


def _einsum(call: Call) -> int:
    operands = call.node.args[1:]
    if len(operands) == 1 and isinstance(operands[0], tuple | list):
        operands = tuple(operands[0])
    shapes = [call.sizes(node) for node in operands if isinstance(node, fx.Node)]
    return einsum_macs(str(call.node.args[0]), shapes)


def _product(position: int, *names: str) -> Rule:
    """A matrix product whose left factor is the argument at ``position``: its last axis is summed.

    Rows and columns are what is in the output, so only the summed axis is looked up.
    """
    return lambda call: prod(call.out) * call.operand(position, *names)[-1]


def _layer_conv(call: Call) -> int:
    return _conv(call.out, call.weight)


def _layer_conv_transposed(call: Call) -> int:
    return _conv_transposed(call.operand(0, "input", "x"), call.weight)


def _function_conv(call: Call) -> int:
    return _conv(call.out, call.operand(1, "weight"))


def _function_conv_transposed(call: Call) -> int:
    return _conv_transposed(call.operand(0, "input"), call.operand(1, "weight"))


def _parallel_neuron(call: Call) -> int:
    """``[T, T] @ [T, ...]`` (Fang et al., "Parallel Spiking Neurons", NeurIPS 2023, equation 8)."""
    return prod(call.out) * call.out[0]


MAC_RULES: Mapping[type[nn.Module] | str, Rule] = {
    nn.Linear: _layer_conv,
    nn.Conv1d: _layer_conv,
    nn.Conv2d: _layer_conv,
    nn.Conv3d: _layer_conv,
    nn.ConvTranspose1d: _layer_conv_transposed,
    nn.ConvTranspose2d: _layer_conv_transposed,
    nn.ConvTranspose3d: _layer_conv_transposed,
    **dict.fromkeys(("PSN", "MaskedPSN", "SlidingPSN"), _parallel_neuron),
    "linear": _function_conv,
    "conv1d": _function_conv,
    "conv2d": _function_conv,
    "conv3d": _function_conv,
    "conv_transpose1d": _function_conv_transposed,
    "conv_transpose2d": _function_conv_transposed,
    "conv_transpose3d": _function_conv_transposed,
    "matmul": _product(0, "input"),
    "rmatmul": _product(1, "other"),
    "mm": _product(0, "input"),
    "mv": _product(0, "input"),
    "bmm": _product(0, "input"),
    "dot": _product(0, "input"),
    "addmm": _product(1, "mat1"),
    "addmv": _product(1, "mat"),
    "addbmm": lambda call: prod(call.operand(1, "batch1")) * call.out[-1],
    "baddbmm": _product(1, "batch1"),
    "einsum": _einsum,
    "scaled_dot_product_attention": _attention,
}
"""Layer type (subclasses included), SpikingJelly's name of a neuron that sees all steps at once, or
operation name -> MACs of one call, whole batch."""

HEAVY_FUNCTIONS = frozenset(
    {"inner", "tensordot", "bilinear", "chain_matmul", "multi_dot", "vdot", "cdist"}
    | {"matrix_power", "matrix_exp", "multi_head_attention_forward", "lstm", "gru"}
    | {"rnn_tanh", "rnn_relu", "conv_tbc", "deform_conv2d"}
)
"""Operations that multiply and accumulate but have no rule; ``uncounted`` names them."""

FREE_LAYERS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.Embedding, nn.EmbeddingBag)
"""Layers whose weight may have several axes although they cost no MACs by the convention."""


@dataclass(frozen=True, eq=False)
class Operation:
    """A node that costs MACs, with its rule and the sizes that a removal can change.

    ``weight``: first name of a layer's weight. ``images``: batch size to divide by, 1 for a
    product in which no input takes part.
    """

    node: fx.Node
    rule: Rule
    weight: str | None
    images: int
    fields: Mapping[str, list[Field]]
    names: Mapping[str, str]

    def count(self, shapes: Mapping[str, Shape], dead: NDArray[np.bool_] | None) -> int:
        """MACs of the whole batch with parameters of ``shapes`` and without the ``dead`` lanes."""

        def sizes(node: fx.Node) -> Shape:
            if node.op == "get_attr" and str(node.target) in self.names:
                return shapes[self.names[str(node.target)]]
            shape: Shape = tuple(node.meta["shape"])
            fields = self.fields.get(node.name)
            return shape if dead is None or not fields else kept_shape(fields, shape, dead)

        weight = () if self.weight is None else shapes[self.weight]
        return self.rule(Call(self.node, sizes(self.node), weight, sizes))


def count_macs(
    operations: tuple[Operation, ...],
    shapes: Mapping[str, Shape],
    dead: NDArray[np.bool_] | None,
) -> int:
    """MACs of one image. ``shapes``: of the parameters left, ``dead``: which lanes are gone."""
    per_divisor: dict[int, int] = {}
    for operation in operations:
        macs = operation.count(shapes, dead)
        per_divisor[operation.images] = per_divisor.get(operation.images, 0) + macs
    return sum(round(macs / images) for images, macs in per_divisor.items())


def list_operations(graph: Graph, labels: Labels, tensors: Tensors) -> tuple[Operation, ...]:
    """Every node of the eval forward that a rule counts."""
    images = batch_size(graph)
    from_input = nodes_from_input(graph)
    operations: list[Operation] = []
    for node in graph.forwards["eval"].nodes:
        rule = _rule_of(graph, node)
        if rule is not None and "shape" in node.meta:
            operations.append(
                Operation(
                    node=node,
                    rule=rule,
                    # the model itself may be the layer, and has no name then
                    weight=tensors.first_name[f"{node.target}.weight".lstrip(".")]
                    if node.op == "call_module"
                    else None,
                    images=images if node in from_input else 1,
                    fields=labels.fields.get("eval", {}),
                    names=tensors.first_name,
                )
            )
    return tuple(operations)


def nodes_from_input(graph: Graph) -> frozenset[fx.Node]:
    """The nodes of the eval forward in which an input takes part."""
    found: set[fx.Node] = set()
    for node in graph.forwards["eval"].nodes:
        if node.op == "placeholder" or any(n in found for n in node.all_input_nodes):
            found.add(node)
    return frozenset(found)


def batch_size(graph: Graph) -> int:
    """Number of images in the example inputs: the size of the batch axis of the first one."""
    shape = _first_shape(graph)
    return max(shape[batch_axis(graph)], 1)


def batch_axis(graph: Graph) -> int:
    """Which axis of the first input counts images.

    That is its first axis, unless the output says that the first holds T steps. Of inputs
    ``[T, B, ...]`` an output ``[B, K]`` has the size of the second axis; an output
    ``[T, B, K]`` of images with steps, ``[T, B, C, H, W]`` or ``[B, T, C, H, W]``, has both
    sizes, and B in the second place as SpikingJelly lays tensors out. If both axes have the same
    size, only five axes speak for steps.
    """
    shape = _first_shape(graph)
    output = _output_shape(graph)
    if len(shape) < 3 or not output:
        return 0
    first, second = shape[:2]
    if len(shape) == 5 and len(output) > 2 and sorted(output[:2]) == sorted((first, second)):
        return 0 if output[1] == first and first != second else 1
    steps_first = output[0] == second and (
        len(shape) == 5 or (len(output) == 2 and first != second)
    )
    return int(steps_first)


def _first_shape(graph: Graph) -> Shape:
    return next((spec.shape for spec in graph.inputs if spec.shape), (1,))


def _output_shape(graph: Graph) -> Shape:
    """Sizes of the first tensor that the eval forward returns; () if it returns none."""
    for node in graph.forwards["eval"].nodes:
        if node.op == "output":
            shapes = [n.meta["shape"] for n in node.all_input_nodes if "shape" in n.meta]
            return tuple(shapes[0]) if shapes else ()
    return ()


def uncounted(graph: Graph) -> tuple[str, ...]:
    """Operations that likely cost MACs but that no rule counts, in words: report them.

    These are layers with a weight of two or more axes that ``MAC_RULES`` does not know, and the
    functions in ``HEAVY_FUNCTIONS``.
    """
    found: dict[str, None] = {}
    for node in graph.forwards["eval"].nodes:
        if _rule_of(graph, node) is not None:
            continue
        if node.op == "call_module":
            module = graph.module.get_submodule(str(node.target))
            weighty = any(p.ndim > 1 for p in module.parameters())
            if weighty and not isinstance(module, FREE_LAYERS):
                found[f"{node.target} ({type(module).__name__})"] = None
        elif operation_name(node) in HEAVY_FUNCTIONS:
            found[f"{node.name} ({operation_name(node)})"] = None
    return tuple(found)


def _rule_of(graph: Graph, node: fx.Node) -> Rule | None:
    if node.op == "call_module":
        module = graph.module.get_submodule(str(node.target))
        return next((MAC_RULES[k] for k in _kinds(module) if k in MAC_RULES), None)
    return MAC_RULES.get(operation_name(node))


def _kinds(module: nn.Module) -> Iterator[type[nn.Module] | str]:
    for kind in type(module).__mro__:
        yield kind
        if kind.__module__.startswith("spikingjelly.") and getattr(module, "step_mode", "m") == "m":
            yield kind.__name__


def operation_name(node: fx.Node) -> str:
    """``matmul`` for ``torch.matmul``, ``Tensor.matmul`` and ``@`` alike; "" for user code."""
    if node.op == "call_method":
        return str(node.target).strip("_")
    # a recorded autograd function may be called anything, "linear" too
    if node.op == "call_function" and getattr(node.target, "__module__", "") != "psvit_recorded":
        return str(getattr(node.target, "__name__", "")).strip("_")
    return ""
