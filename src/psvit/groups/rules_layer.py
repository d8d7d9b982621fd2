"""Rules for layers: leaf modules, and the same layers called as functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.pooling import (
    _AdaptiveAvgPoolNd,
    _AdaptiveMaxPoolNd,
    _AvgPoolNd,
    _MaxPoolNd,
)

from psvit.groups.align import Operand, aligned
from psvit.groups.call import Call, shape_of
from psvit.groups.evidence import evidence, examined
from psvit.groups.fields import axis_field, is_scrambled
from psvit.groups.labelling import Fields, Labelling
from psvit.groups.probe import module_function
from psvit.groups.rest import nothing, total
from psvit.groups.rules_math import grouped_statistics, mixed
from psvit.records import Field, IntArray


def layer(call: Call) -> Any:
    """A ``call_module`` node: the first rule in MODULE_RULES whose type fits."""
    module = call.state.module.get_submodule(str(call.node.target))
    for kinds, rule in MODULE_RULES:
        if isinstance(module, kinds):
            return rule(call, module)
    if any(p.numel() > 1 for p in _own_tensors(module).values()):
        return channel_parameters(call, module)
    return pointwise(call, module)


def channel_lanes(
    state: Labelling, fields: Fields, axis: int, what: str
) -> tuple[IntArray | None, Fields]:
    """The lanes of a channel axis that a layer reads, and the fields that do not involve it.

    Slices that share the layer (heads, say) must keep the same channels.
    """
    state.require_rectangle(fields)
    lanes, rest = None, []
    for f in fields:
        if axis not in f.varying:
            rest.append(f)
        elif f.block:
            state.pin(f, axis, f"read by {what}")
        elif is_scrambled(f):
            state.lock([f], f"{what} reads channels that a view has mixed with tokens")
        elif axis == f.along:
            state.unite_slices(f)
            lanes = np.moveaxis(f.lanes, axis, -1).reshape(-1, f.lanes.shape[axis])[0]
        else:
            state.pin(f, axis, f"read by {what}")
            state.unite_across(f, axis)
            rest.append(replace(f, lanes=np.take(f.lanes, [0], axis=axis)))
    return lanes, rest


def without_bias(fields: Fields, layer: _ConvNd | nn.Linear) -> Fields:
    """Fields of other axes than the channels': a bias makes what was 0 there something else."""
    biased = layer.bias is not None
    return [replace(f, rest=None if biased else nothing(f.rest)) for f in fields]


def convolution(call: Call, conv: _ConvNd) -> Fields:
    """``[..., I, *spatial] -> [..., O, *spatial]`` with weight ``[O, I / groups, *kernel]``."""
    state, name = call.state, str(call.node.target)
    rank = len(shape_of(call.args[0]))
    axis = rank - len(conv.kernel_size) - 1
    fields = call.fields(call.args[0])
    if not _is_pointwise(conv):
        fields = mixed(call, range(axis + 1, rank), "a convolution over its axis")
    inputs, rest = channel_lanes(state, fields, axis, "a convolution")
    transposed = isinstance(conv, _ConvTransposeNd)
    out_dim, in_dim = (1, 0) if transposed else (0, 1)
    if transposed and conv.groups > 1 and not conv.groups == conv.in_channels == conv.out_channels:
        outputs = state.axis_lanes(f"{name}.bias", 0, conv.out_channels)
        state.lanes.lock(outputs, "made by a grouped transposed convolution")
        state.lock(fields, "read by a grouped transposed convolution", [axis])
    else:
        depthwise = conv.groups > 1 and transposed
        outputs = state.axis_lanes(f"{name}.weight", 0 if depthwise else out_dim, conv.out_channels)
        if conv.bias is not None:
            state.bind(f"{name}.bias", 0, outputs)
        _bind_inputs(state, name, conv, inputs, outputs, in_dim)
    return [*without_bias(rest, conv), axis_field(outputs, axis, len(call.shape))]


def _is_pointwise(conv: _ConvNd) -> bool:
    """A 1x1 convolution leaves its spatial axes as they are, as a linear layer does."""
    return (
        all(k == 1 for k in conv.kernel_size)
        and all(s == 1 for s in conv.stride)
        and conv.padding in ("valid", (0,) * len(conv.kernel_size))
    )


def _bind_inputs(
    state: Labelling,
    name: str,
    conv: _ConvNd,
    inputs: IntArray | None,
    outputs: IntArray,
    in_dim: int,
) -> None:
    groups = conv.groups
    if inputs is None:
        if groups > 1:
            state.lanes.lock(outputs, "a grouped convolution of an input that stays")
        return
    if groups == 1:
        state.bind(f"{name}.weight", in_dim, inputs)
    elif groups == conv.in_channels:
        state.lanes.unite(np.repeat(inputs, conv.out_channels // groups), outputs)
    else:
        state.bind(f"{name}.weight", "in", inputs)
        both = [inputs.reshape(groups, -1), outputs.reshape(groups, -1)]
        state.rows += both
        state.pinned += [row for rows in both for row in rows]


def linear(call: Call, layer: nn.Linear) -> Fields:
    """``[..., I] -> [..., O]`` with weight ``[O, I]``."""
    state, name = call.state, str(call.node.target)
    axis = len(shape_of(call.args[0])) - 1
    fields = call.fields(call.args[0])
    inputs, rest = channel_lanes(state, fields, axis, "a linear layer")
    outputs = state.axis_lanes(f"{name}.weight", 0, layer.out_features)
    if layer.bias is not None:
        state.bind(f"{name}.bias", 0, outputs)
    if inputs is not None:
        state.bind(f"{name}.weight", 1, inputs)
    return [*without_bias(rest, layer), axis_field(outputs, axis, axis + 1)]


def batch_norm(call: Call, norm: _NormBase) -> Fields:
    """Each channel on its own."""
    axis = _channel_axis(norm)
    fields = call.fields(call.args[0])
    plain = [f for f in fields if f.varying == {axis} and not f.block]
    lanes, rest = channel_lanes(call.state, fields, axis, "a batch norm")
    call.state.lock(rest, "a batch norm's statistics cover it")
    if lanes is None:
        return rest
    for name, tensor in _own_tensors(norm).items():
        if tensor.ndim == 1:
            call.state.bind(f"{call.node.target}.{name}", 0, lanes)
    left = 0.0 if norm.affine else total([f.rest for f in plain])
    return [*rest, axis_field(lanes, axis, len(call.shape), rest=left)]


def layer_norm(call: Call, norm: nn.LayerNorm) -> Fields:
    """Statistics over the last axes: their channels stay."""
    rank = len(call.shape)
    return mixed(call, range(rank - len(norm.normalized_shape), rank), "LayerNorm")


def group_norm(call: Call, norm: nn.GroupNorm) -> Fields:
    """Statistics over each group of channels, on the axis of a batch norm: whole groups can go."""
    axis = _channel_axis(norm)
    fields = grouped_statistics(call, call.fields(call.args[0]), norm.num_groups, axis)
    for f in fields:
        if f.varying == {axis}:
            for name, _ in norm.named_parameters():
                call.state.bind(f"{call.node.target}.{name}", 0, f.lanes.ravel())
    return [f if f.varying == {axis} else replace(f, rest=None) for f in fields]


def _channel_axis(norm: nn.Module) -> int:
    """Axis 1 of ``[B, C, ...]``, or axis 2 of ``[T, B, C, ...]`` in multi-step mode."""
    return 2 if getattr(norm, "step_mode", "s") == "m" else 1


_VOCABULARY = "the rows of a vocabulary are chosen by number"


def embedding(call: Call, table: nn.Embedding) -> Fields:
    """``[...] -> [..., C]`` with weight ``[vocabulary, C]``."""
    return _embedded(call, str(call.node.target) + ".weight", tuple(table.weight.shape))


def functional_embedding(call: Call) -> Fields:
    """``F.embedding(indices, weight)``."""
    weight = call.get(1, "weight")
    for f in call.fields(weight):
        if 0 in f.varying:
            call.state.lock([f], _VOCABULARY)
    last = len(call.shape) - 1
    return [
        axis_field(f.lanes.ravel(), last, last + 1, rest=f.rest)
        for f in call.fields(weight)
        if f.varying == {1}
    ]


def _embedded(call: Call, name: str, shape: tuple[int, ...]) -> Fields:
    call.state.lanes.lock(
        call.state.axis_lanes(name, 0, shape[0]), "the rows of a vocabulary are chosen by number"
    )
    last = len(call.shape) - 1
    return [axis_field(call.state.axis_lanes(name, 1, shape[1]), last, last + 1)]


def pooling(call: Call, pool: nn.Module) -> Any:
    """Pooling over the last axes."""
    spatial = int(type(pool).__name__.rstrip("d")[-1])
    rank = len(shape_of(call.args[0]))
    fields = mixed(call, range(rank - spatial, rank), "pooling")
    return [fields for _ in call.parts] if call.parts else fields


def channel_parameters(call: Call, module: nn.Module) -> Any:
    """A neuron or activation with parameters: on what does it act element by element as it is?

    Such axes have no parameter (the channels, where each time step has its own). A parameter for
    each channel is matched by its size.
    """
    fields, name = call.fields(call.args[0]), str(call.node.target)
    many = {key: t for key, t in _own_tensors(module).items() if t.numel() > 1}
    kept, others = examined(
        call,
        fields,
        call.args[0],
        module_function(module),
        trained=module_function(module, train=True),
        whole={size for t in many.values() for size in t.shape},
    )
    for key, tensor in many.items() if others else ():
        fits = [
            f
            for f in others
            if len(f.varying) == 1 and not f.block and f.lanes.size == tensor.numel()
        ]
        if len(fits) == 1 and list(tensor.shape).count(tensor.numel()) == 1:
            dim = list(tensor.shape).index(tensor.numel())
            call.state.bind(f"{name}.{key}", dim, fits[0].lanes.ravel())
        else:
            shape = list(tensor.shape)
            call.state.lock(others, f"{type(module).__name__}.{key} of shape {shape} follows it")
    left = kept + [replace(f, rest=None) for f in others]
    return [[] for _ in call.parts] if call.parts else left


def pointwise(call: Call, module: nn.Module) -> Any:
    """A module without parameters of channel shape (neuron, activation): try it on each axis."""
    source = call.args[0] if call.args else call.tensors[0]
    fields = call.fields(source)
    if not fields:
        return [[] for _ in call.parts] if call.parts else []
    return evidence(
        call,
        fields,
        source,
        module_function(module),
        type(module).__name__,
        trained=module_function(module, train=True),
        key=_configuration(module),
    )


def _configuration(module: nn.Module) -> object:
    """What two modules of one class have to share to behave alike: every plain attribute."""
    plain = (bool, int, float, str, type(None))
    settings = [
        (type(m), tuple(sorted((k, v) for k, v in vars(m).items() if isinstance(v, plain))))
        for m in module.modules()
    ]
    own = any(
        isinstance(v, torch.Tensor) or callable(v)
        for m in module.modules()
        for v in vars(m).values()
    )
    tensors = [*module.parameters(), *module.buffers()]
    return None if own or tensors else tuple(settings)


def _own_tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    pairs = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    return dict(pairs)


def functional_linear(call: Call) -> Fields:
    """``F.linear(x, w, b)``: a product over the last axis, whatever w was computed from."""
    x, weight, bias = call.args[0], call.get(1, "weight"), call.get(2, "bias")
    rank = len(shape_of(x)) + 1  # ..., O, I
    inputs: Operand = (
        [_inserted(f, rank - 2) for f in call.fields(x)],
        (*shape_of(x)[:-1], 1, shape_of(x)[-1]),
    )
    weights = (
        [_padded(f, rank) for f in call.fields(weight)],
        (1,) * (rank - 2) + shape_of(weight),
    )
    fields = aligned(call.state, [inputs, weights], [rank - 1])
    fields = [_squeezed(f, rank - 1) for f in fields]
    return _with_bias(call, fields, bias, rank - 2)


def functional_convolution(call: Call) -> Fields:
    """``F.conv*d(x, w, b, ..., groups)`` for plain and depthwise convolutions."""
    state = call.state
    x, weight, bias = call.args[0], call.get(1, "weight"), call.get(2, "bias")
    groups = call.get(6, "groups", 1)
    rank, kernel = len(shape_of(x)), len(shape_of(weight)) - 2
    axis = rank - kernel - 1
    fields = mixed(call, range(axis + 1, rank), "a convolution's spatial axis")
    state.lock(call.fields(weight), "a kernel's spatial axis", range(2, 2 + kernel))
    filters = [f for f in call.fields(weight) if f.varying <= {0, 1}]
    if axis != 1 or (groups > 1 and not groups == shape_of(x)[1] == shape_of(weight)[0]):
        state.lock(fields, "read by a grouped convolution without a layer", [axis])
        state.lock(filters, "a grouped convolution without a layer")
        return [f for f in fields if axis not in f.varying]
    batch, channels = shape_of(x)[:2]
    outputs, inputs = shape_of(weight)[:2]
    if groups > 1:  # depthwise: elementwise over channels
        left: Operand = ([_placed(f, {0: 0, 1: 1}, 2) for f in fields], (batch, channels))
        right: Operand = (
            [_placed(f, {0: 1}, 2) for f in filters if f.varying == {0}],
            (1, outputs),
        )
        out = aligned(state, [left, right])
    else:
        left = ([_placed(f, {0: 0, 1: 2}, 3) for f in fields], (batch, 1, channels))
        right = ([_placed(f, {0: 1, 1: 2}, 3) for f in filters], (1, outputs, inputs))
        out = aligned(state, [left, right], [2])
    rank_out = len(call.shape)
    out = [_placed(f, {0: 0, 1: 1}, rank_out) for f in out]
    return _with_bias(call, out, bias, 1)


def _with_bias(call: Call, fields: Fields, bias: Any, axis: int) -> Fields:
    if not isinstance(bias, fx.Node):
        return fields
    rank = len(call.shape)
    lanes = [axis_field(f.lanes.ravel(), axis, rank, rest=f.rest) for f in call.fields(bias)]
    sizes = tuple(s if d == axis else 1 for d, s in enumerate(call.shape))
    return aligned(call.state, [(fields, call.shape), (lanes, sizes)], rest=total)


def _placed(f: Field, where: dict[int, int], rank: int) -> Field:
    """A field over other axes: axis d of the tensor is axis ``where[d]`` of the result."""
    shape = [1] * rank
    for source, target in where.items():
        if source < f.lanes.ndim:
            shape[target] = f.lanes.shape[source]
    return Field(f.lanes.reshape(shape), where[f.along], f.rest, f.block)


def _inserted(f: Field, axis: int) -> Field:
    return Field(np.expand_dims(f.lanes, axis), f.along + (f.along >= axis), f.rest, f.block)


def _padded(f: Field, rank: int) -> Field:
    pad = rank - f.lanes.ndim
    return Field(f.lanes.reshape((1,) * pad + f.lanes.shape), f.along + pad, f.rest, f.block)


def _squeezed(f: Field, axis: int) -> Field:
    return Field(np.squeeze(f.lanes, axis), f.along - (f.along > axis), f.rest, f.block)


ModuleRule = Callable[[Call, Any], Any]

MODULE_RULES: list[tuple[Any, ModuleRule]] = [
    (_ConvNd, convolution),
    (nn.Linear, linear),
    (_NormBase, batch_norm),
    (nn.LayerNorm, layer_norm),
    (nn.GroupNorm, group_norm),
    (nn.Embedding, embedding),
    ((_MaxPoolNd, _AvgPoolNd, _AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd), pooling),
]
"""Leaf modules with a rule of their own, tried in order."""
