"""The rule table: what each operation does to the labels of its operands.

A rule takes a Call and returns the fields of the result: a list, or a list of lists for an
operation that returns several tensors. Supporting an operation is one entry here. An operation
without an entry is tried out (``unknown``), and reported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from psvit.groups import rules_index, rules_layer, rules_math, rules_move
from psvit.groups.align import aligned, lifted_all_of
from psvit.groups.call import Call, shape_of
from psvit.groups.evidence import evidence
from psvit.groups.labelling import Fields
from psvit.groups.probe import commutes, samples
from psvit.groups.rest import Rest
from psvit.groups.trials import evaluated, filled

Rule = Callable[[Call], Any]


def created(call: Call) -> Fields:
    """A tensor that the forward makes: all elements alike, so any part of an axis may go.

    ``zeros_like(x)`` has the shape of x, so what goes from x goes from it.
    """
    rest = filled(call)
    like = call.fields(call.args[0]) if call.name.endswith("_like") else []
    own = [replace(f, rest=rest) for f in like if not f.block]
    axes = set(range(len(call.shape))).difference(*(f.varying for f in own))
    return own + call.state.new_fields(call.shape, sorted(axes), rest)


def unlabelled(call: Call) -> Any:
    """A result whose elements stand for no channel."""
    return [[] for _ in call.parts] if call.parts else []


def unknown(call: Call) -> Any:
    """An operation without a rule: keep labels on evidence only, and say so."""
    tensors = call.tensors
    labelled = [t for t in tensors if call.fields(t)]
    if not labelled:
        return unlabelled(call)
    if call.name not in call.state.unknown:
        call.state.unknown.append(call.name)
    if len(tensors) == 1:
        return evidence(
            call,
            call.fields(tensors[0]),
            tensors[0],
            lambda x: call.replayed({tensors[0]: x}),
            f"{call.name}, which psvit has no rule for,",
        )
    if call.parts is None and _broadcasts(tensors, call.shape) and _acts_locally(call, tensors):
        operands = [lifted_all_of(call, t, len(call.shape)) for t in tensors]

        def rest(rests: tuple[Rest, ...]) -> Rest:
            return evaluated(call, dict(zip(tensors, rests, strict=True)), small=False)

        return aligned(call.state, operands, rest=rest, nodes=tensors)
    for t in labelled:
        call.state.lock(call.fields(t), f"{call.name} has no rule and mixes its channels")
    return unlabelled(call)


def _broadcasts(tensors: list[fx.Node], shape: tuple[int, ...]) -> bool:
    try:
        shapes = [shape_of(t) for t in tensors]
        return tuple(torch.broadcast_shapes(*shapes)) == shape  # type: ignore[no-untyped-call]
    except RuntimeError:
        return False


def _acts_locally(call: Call, tensors: list[fx.Node]) -> bool:
    rank = len(call.shape)
    axes = {d - len(shape_of(t)) for t in tensors for f in call.fields(t) for d in f.varying}
    values = [samples(shape_of(t), t.meta["dtype"])[0] for t in tensors]

    def run(*operands: torch.Tensor) -> Any:
        return call.replayed(dict(zip(tensors, operands, strict=True)))

    return all(-axis <= rank and commutes(run, values, axis) for axis in axes)


def _names(text: str, rule: Rule) -> dict[str, Rule]:
    return dict.fromkeys(text.split(), rule)


RULES: dict[str, Rule] = {
    **_names(
        "contiguous clone detach detach_ type float double half bfloat16 to requires_grad_ cpu "
        "cuda type_as alias", rules_move.identity),
    **_names(
        "reshape view flatten unflatten squeeze unsqueeze reshape_as view_as ravel squeeze_ "
        "unsqueeze_", rules_move.reshape),
    **_names(
        "permute transpose swapaxes swapdims movedim moveaxis t transpose_ adjoint",
        rules_move.permute),
    **_names(
        "chunk split tensor_split split_with_sizes hsplit vsplit dsplit", rules_move.split),
    **_names("cat concat concatenate", rules_move.concatenate),
    **_names("expand expand_as broadcast_to", rules_move.expand),
    **_names("repeat tile repeat_interleave", rules_move.repeat),
    **_names("flip fliplr flipud", rules_move.flip),
    **_names("matmul bmm rmatmul mm mv dot", rules_math.matmul),
    **_names("addmm baddbmm addmv", rules_math.added_product),
    **_names(" ".join(sorted(rules_math.REDUCTIONS)), rules_math.reduction),
    **_names(" ".join(sorted(rules_math.AXIS_ARGUMENT)), rules_math.along_axis),
    **_names(
        "add sub mul div truediv true_divide iadd isub imul itruediv neg pow sqrt rsqrt exp log "
        "abs relu relu_ relu6 gelu silu elu leaky_relu hardtanh sigmoid tanh erf sin cos softplus "
        "clamp clamp_ clamp_min clamp_max clip where maximum minimum dropout feature_dropout gt ge "
        "lt le "
        "eq ne floor ceil round trunc sign heaviside rsub radd rmul rtruediv rpow add_ sub_ mul_ "
        "div_ lerp fill_ zero_ copy_ floordiv mod remainder fmod masked_fill masked_fill_ addcmul "
        "addcdiv reciprocal square expm1 log1p sigmoid_ tanh_ exp_ neg_ logical_and logical_or "
        "logical_not logical_xor and or xor invert isnan isinf nan_to_num threshold hardswish "
        "hardsigmoid mish celu selu softsign logit ipow bernoulli bernoulli_ multiply divide "
        "subtract rdiv floor_ ceil_ round_ abs_ sqrt_ pow_", rules_math.elementwise),
    **_names(
        "zeros ones empty full new_zeros new_ones new_empty new_full rand randn normal zeros_like "
        "ones_like empty_like full_like rand_like randn_like", created),
    **_names("arange linspace tensor eye nonzero unique bincount", unlabelled),
    **_names(
        "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d "
        "adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d "
        "adaptive_max_pool3d boolean_dispatch interpolate upsample", rules_math.trailing),
    **_names("conv1d conv2d conv3d", rules_layer.functional_convolution),
    **_names("batch_norm instance_norm", rules_math.normalisation),
    "unbind": rules_move.unbind,
    "narrow": rules_move.narrow,
    "select": rules_index.select,
    "getitem": rules_index.getitem,
    "setitem": rules_index.setitem,
    "getattr": rules_move.getattr_view,
    "stack": rules_move.stack,
    "roll": rules_move.roll,
    "pad": rules_move.pad,
    "unfold": rules_move.unfold,
    "channel_shuffle": rules_move.channel_shuffle,
    "native_channel_shuffle": rules_move.channel_shuffle,
    "embedding": rules_layer.functional_embedding,
    "gather": rules_index.gather,
    "index_select": rules_index.index_select,
    "einsum": rules_math.einsum,
    "scaled_dot_product_attention": rules_math.attention,
    "normalize": rules_math.normalize,
    "layer_norm": rules_math.layer_norm,
    "group_norm": rules_math.group_norm,
    "linear": rules_layer.functional_linear,
}  # fmt: skip
