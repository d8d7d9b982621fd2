"""Rules for arithmetic: elementwise operations, reductions, products, attention, normalisation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from torch import fx

from psvit.groups.align import Operand, aligned, lifted_all_of
from psvit.groups.call import Call, shape_of
from psvit.groups.fields import axis_field, lifted, without_axes
from psvit.groups.labelling import Fields
from psvit.groups.rest import Rest, nothing, one_of, values_of
from psvit.groups.trials import evaluated

SUMS = {"sum", "nansum", "mean", "norm", "vector_norm"}
REDUCTIONS = SUMS | {
    "amax", "amin", "max", "min", "var", "std", "logsumexp", "prod", "all", "any", "argmax",
    "argmin", "median",
}  # fmt: skip


def elementwise(call: Call) -> Fields:
    """Broadcast the operands against one another and align them."""
    rank = len(call.shape)
    operands = [lifted_all_of(call, t, rank) for t in call.tensors]

    def rest(rests: tuple[Rest, ...]) -> Rest:
        return evaluated(call, dict(zip(call.tensors, rests, strict=True)))

    return aligned(call.state, operands, rest=rest, nodes=call.tensors)


def reduction(call: Call) -> Any:
    """Sums ignore removed channels, which are 0; any other reduction over channels locks them."""
    source = call.args[0]
    other = call.get(1, "other")
    if call.name in ("max", "min") and isinstance(other, fx.Node):
        return elementwise(call)
    shape = shape_of(source)
    axes, keepdim = _reduced_axes(call, len(shape))
    fields = call.fields(source)
    call.state.require_rectangle(fields)
    exact = call.name in SUMS and not (call.name == "mean" and axes is None)
    every = list(range(len(shape))) if axes is None else axes
    out = []
    for f in fields:
        left = call.state.reduced(f, every, f"{call.name}", exact=exact)
        if left is not None and call.name == "logsumexp":
            left = replace(left, rest=None)
        if left is not None:
            out.append(left if keepdim else without_axes(left, every))
    if call.parts:
        return [out for _ in call.parts]
    return out


def _reduced_axes(call: Call, rank: int) -> tuple[list[int] | None, bool]:
    if call.name in ("norm", "vector_norm"):
        dim, keepdim = call.get(2, "dim"), call.get(3, "keepdim", False)
    elif call.name in ("var", "std"):
        dim = call.get(1, "dim")
        keepdim = call.kwargs.get("keepdim", call.args[-1] if len(call.args) > 3 else False)
    else:
        dim, keepdim = call.get(1, "dim", call.kwargs.get("axis")), call.get(2, "keepdim", False)
    if dim is None or dim == () or isinstance(dim, bool):
        return None, False
    return [d % rank for d in ([dim] if isinstance(dim, int) else dim)], bool(keepdim)


def along_axis(call: Call) -> Any:
    """Operations that mix the elements of one axis and keep the others apart (softmax, sort)."""
    axis = call.get(*AXIS_ARGUMENT[call.name])
    axis = (-1 if axis is None else axis) % len(shape_of(call.args[0]))
    out = []
    for f in call.fields(call.args[0]):
        if axis not in f.varying:
            softmax = call.name in ("softmax", "log_softmax")
            out.append(replace(f, rest=None if softmax else nothing(f.rest)))
        else:
            call.state.lock([f], f"{call.name} over channels depends on every channel")
    return [out for _ in call.parts] if call.parts else out


AXIS_ARGUMENT: dict[str, tuple[int, str]] = {
    "softmax": (1, "dim"), "log_softmax": (1, "dim"), "cumsum": (1, "dim"), "cumprod": (1, "dim"),
    "sort": (1, "dim"), "argsort": (1, "dim"), "topk": (2, "dim"), "kthvalue": (2, "dim"),
    "glu": (1, "dim"), "logcumsumexp": (1, "dim"), "softmin": (1, "dim"),
}  # fmt: skip


def normalize(call: Call) -> Fields:
    """``F.normalize``: a p-norm is a sum, so removed channels drop out of it."""
    axis = call.get(2, "dim", 1) % len(call.shape)
    fields = call.fields(call.args[0])
    call.state.require_rectangle(fields)
    for f in fields:
        call.state.reduced(f, [axis], "a norm", exact=True)
    return fields


def matmul(call: Call) -> Fields:
    """``[..., M, K] @ [..., K, N]``: align on the batch axes and K, sum over K."""
    a, b = (call.args[1], call.args[0]) if call.name == "rmatmul" else call.args[:2]
    return _product(call, a, b)


def added_product(call: Call) -> Fields:
    """``addmm``, ``baddbmm``, ``addmv``: ``beta * input + alpha * (a @ b)``."""
    base, a, b = (call.get(i, n) for i, n in enumerate(_OPERANDS[call.name]))
    beta, rank = call.kwargs.get("beta", 1), len(call.shape)
    operands = [lifted_all_of(call, base, rank), (_product(call, a, b), call.shape)]

    def rest(rests: tuple[Rest, ...]) -> Rest:
        if rests[1] != 0.0 or not isinstance(beta, (int, float)):
            return None
        return one_of([beta * value for value in values_of(rests[0])])

    return aligned(call.state, operands, rest=rest, nodes=[base])


_OPERANDS = {
    "addmm": ("input", "mat1", "mat2"),
    "baddbmm": ("input", "batch1", "batch2"),
    "addmv": ("input", "mat", "vec"),
}


def _product(call: Call, a: Any, b: Any) -> Fields:
    shape_a, shape_b = shape_of(a), shape_of(b)
    if len(shape_a) == 1 or len(shape_b) == 1:
        return _vector_product(call, a, b)
    rank = max(len(shape_a), len(shape_b)) + 1  # batch..., M, K, N
    left = _spread(call, a, rank, rank - 1)
    right = _spread(call, b, rank, rank - 3)
    fields = aligned(call.state, [left, right], [rank - 2], tag="attended")
    return [without_axes(f, [rank - 2]) for f in fields]


def _vector_product(call: Call, a: Any, b: Any) -> Fields:
    letters = "ABCDEFGH"
    left = letters[: len(shape_of(a)) - 1] + "k"
    right = "k" if len(shape_of(b)) == 1 else letters[: len(shape_of(b)) - 2] + "kn"
    out = (left if len(left) >= len(right) else right).replace("k", "")
    out += "n" if right.endswith("n") and not out.endswith("n") else ""
    return contraction(call, [left, right], [a, b], out)


def _spread(call: Call, tensor: Any, rank: int, missing: int) -> Operand:
    """An operand over the axes of a product: lifted, with one axis that it lacks inserted."""
    out: Fields = []
    shape = (1,) * (rank - 1 - len(shape_of(tensor))) + shape_of(tensor)
    for f in call.fields(tensor):
        f, _ = lifted(f, shape_of(tensor), rank - 1)
        out.append(
            replace(f, lanes=np.expand_dims(f.lanes, missing), along=f.along + (f.along >= missing))
        )
    return out, (*shape[:missing], 1, *shape[missing:])


def einsum(call: Call) -> Fields:
    """``torch.einsum``: each letter is an axis."""
    equation, operands = call.args[0].replace(" ", ""), call.args[1:]
    if len(operands) == 1 and isinstance(operands[0], (tuple, list)):
        operands = tuple(operands[0])
    inputs, arrow, output = equation.partition("->")
    terms = inputs.split(",")
    if not arrow:
        once = sorted({c for c in inputs if c.isalpha() and inputs.count(c) == 1})
        output = ("..." if "..." in inputs else "") + "".join(once)
    hidden = [
        len(shape_of(t)) - len(term.replace("...", "")) if "..." in term else 0
        for term, t in zip(terms, operands, strict=True)
    ]
    spare = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in equation][: max(hidden)]
    names = ["".join(spare[len(spare) - h :]) for h in hidden]
    terms = [term.replace("...", n) for term, n in zip(terms, names, strict=True)]
    return contraction(call, terms, list(operands), output.replace("...", "".join(spare)))


def contraction(call: Call, terms: list[str], operands: list[Any], output: str) -> Fields:
    """Align operands whose axes are named by letters; sum over the letters not in ``output``."""
    summed = sorted(set("".join(terms)) - set(output))
    letters = output + "".join(summed)
    if any(len(set(term)) < len(term) for term in terms):
        for t in operands:
            call.state.lock(call.fields(t), "a diagonal of an einsum")
        return []
    aligned_operands: list[Operand] = []
    for term, tensor in zip(terms, operands, strict=True):
        order = [term.index(c) for c in letters if c in term]
        fields = []
        for f in call.fields(tensor):
            lanes = f.lanes.transpose(order)
            full = [f.lanes.shape[term.index(c)] if c in term else 1 for c in letters]
            fields.append(replace(f, lanes=lanes.reshape(full), along=letters.index(term[f.along])))
        sizes = tuple(shape_of(tensor)[term.index(c)] if c in term else 1 for c in letters)
        aligned_operands.append((fields, sizes))
    inner = list(range(len(output), len(letters)))
    out = aligned(call.state, aligned_operands, inner, tag="attended")
    return [without_axes(f, inner) for f in out]


def attention(call: Call) -> Fields:
    """``scaled_dot_product_attention``: softmax runs over the tokens, so channels are free.

    q ``[..., L, E]``, k ``[..., S, E]``, v ``[..., S, V]`` -> ``[..., L, V]``. Equation 1 of
    Vaswani et al. 2017; the scale ``1/sqrt(E)`` keeps its old value when channels of E go.
    """
    state = call.state
    q, k, v = (call.get(i, key) for i, key in enumerate(("query", "key", "value")))
    mask = call.get(3, "attn_mask")
    batch = len(shape_of(q)) - 2
    rank = batch + 4  # batch..., L, S, E, V

    def spread(tensor: Any, axes: tuple[int, ...]) -> Operand:
        shape = shape_of(tensor)
        shape = (1,) * (batch + 2 - len(shape)) + shape
        where = [*range(batch), *(batch + a for a in axes)]
        fields = []
        for f in call.fields(tensor):
            f, _ = lifted(f, shape_of(tensor), batch + 2)
            full = [1] * rank
            for d, size in zip(where, f.lanes.shape, strict=True):
                full[d] = size
            fields.append(replace(f, lanes=f.lanes.reshape(full), along=where[f.along]))
        sizes = [1] * rank
        for d, size in zip(where, shape, strict=True):
            sizes[d] = size
        return fields, tuple(sizes)

    operands = {"q": spread(q, (0, 2)), "k": spread(k, (1, 2)), "v": spread(v, (1, 3))}
    heads = operands["q"][1][batch - 1] if batch else 1
    for name in ("k", "v"):
        operands[name] = _grouped_heads(call, operands[name], batch - 1, heads)
    weights = aligned(state, [operands["q"], operands["k"]], [batch + 2], tag="attended")
    sizes = tuple(
        max(a, b) if d != batch + 2 else 1
        for d, (a, b) in enumerate(zip(operands["q"][1], operands["k"][1], strict=True))
    )
    if isinstance(mask, fx.Node):
        weights = aligned(state, [(weights, sizes), spread(mask, (0, 1))], rest=lambda _: None)
    state.lock(weights, "softmax over channels", [batch + 1])
    weights = [replace(f, rest=None) for f in weights if batch + 1 not in f.varying]
    out = aligned(state, [(weights, sizes), operands["v"]], [batch + 1], tag="attended")
    return [without_axes(f, [batch + 1, batch + 2]) for f in out]


def _grouped_heads(call: Call, operand: Operand, axis: int, heads: int) -> Operand:
    """Grouped-query attention: each k/v head serves several query heads (``enable_gqa``)."""
    fields, sizes = operand
    if not call.kwargs.get("enable_gqa") or axis < 0 or sizes[axis] == heads:
        return operand
    times = heads // sizes[axis]
    out = []
    for f in fields:
        if axis in f.varying:
            lanes = np.repeat(f.lanes, times, axis=axis)
            copies = call.state.lanes.fresh(lanes.size).reshape(lanes.shape)
            call.state.lanes.unite(copies, lanes)
            f = replace(f, lanes=copies)
            call.state.pin(f, axis, "shared by several query heads")
        out.append(f)
    return out, tuple(heads if d == axis else s for d, s in enumerate(sizes))


def normalisation(call: Call) -> Fields:
    """``F.batch_norm`` and ``F.instance_norm``: each channel (axis 1) on its own."""
    source = call.args[0]
    rank = len(call.shape)
    operands: list[Operand] = [(call.fields(source), shape_of(source))]
    names = ("running_mean", "running_var", "weight", "bias")
    scaled = False
    for i, name in enumerate(names, start=1):
        tensor = call.get(i, name)
        if not isinstance(tensor, fx.Node):
            continue
        lanes = [axis_field(f.lanes.ravel(), 1, rank) for f in call.fields(tensor)]
        sizes = tuple(shape_of(tensor)[0] if d == 1 else 1 for d in range(rank))
        operands.append((lanes, sizes))
        scaled |= name == "weight"
    return aligned(call.state, operands, rest=lambda rests: 0.0 if scaled else nothing(rests[0]))


def layer_norm(call: Call) -> Fields:
    """LayerNorm mixes the axes that it normalises; their channels stay."""
    shape = call.get(1, "normalized_shape")
    count = 1 if isinstance(shape, int) else len(shape)
    first = len(call.shape) - count
    return mixed(call, range(first, len(call.shape)), "LayerNorm", call.tensors)


def group_norm(call: Call) -> Fields:
    """GroupNorm's statistics cover a group of channels: whole groups can go."""
    source, groups = call.args[0], call.get(1, "num_groups")
    tensors = [call.get(2, "weight"), call.get(3, "bias")]
    fields = grouped_statistics(call, call.fields(source), groups)
    rank = len(call.shape)
    operands: list[Operand] = [(fields, shape_of(source))]
    for t in tensors:
        if isinstance(t, fx.Node):
            lanes = [axis_field(f.lanes.ravel(), 1, rank) for f in call.fields(t)]
            operands.append((lanes, tuple(s if d == 1 else 1 for d, s in enumerate(call.shape))))
    return aligned(call.state, operands)


def grouped_statistics(call: Call, fields: Fields, groups: int, axis: int = 1) -> Fields:
    """Unite the channels that share statistics; returns the fields that stay labelled."""
    out = []
    for f in fields:
        if f.varying == {axis}:
            lanes = f.lanes.reshape(groups, -1)
            call.state.lanes.unite(lanes, lanes[:, :1])
            if groups == 1:
                call.state.lock([f], "GroupNorm over all channels depends on every channel")
        elif f.varying & set(range(axis, len(call.shape))):
            call.state.lock([f], "GroupNorm over a channel axis that is not a plain axis")
            continue
        out.append(f)
    return out


def mixed(call: Call, axes: Iterable[int], what: str, tensors: Iterable[Any] = ()) -> Fields:
    """An operation that mixes ``axes``: lock what varies there, keep the labels of the rest."""
    axes = set(axes)
    source = call.args[0]
    call.state.lock(call.fields(source), f"{what} depends on every channel", axes)
    for t in tensors:
        if t is not source:
            call.state.lock(call.fields(t), f"{what} depends on every channel")
    return [replace(f, rest=nothing(f.rest)) for f in call.fields(source) if not f.varying & axes]


def trailing(call: Call) -> Any:
    """Pooling and resampling over the last axes."""
    count = {"1": 1, "2": 2, "3": 3}.get(call.name.rstrip("d")[-1], len(call.shape) - 2)
    first = len(shape_of(call.args[0])) - count
    fields = mixed(call, range(first, len(shape_of(call.args[0]))), call.name)
    return [fields for _ in call.parts] if call.parts else fields
