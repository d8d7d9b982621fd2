"""What an operation makes of the values that its operands hold at rest, found by trying it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from math import isfinite, prod
from typing import Any

import torch
from torch import fx

from psvit.groups.call import Call, operation, shape_of
from psvit.groups.rest import MANY, Rest, one_of, total, values_of

_COMPARISONS = {"gt", "ge", "lt", "le", "eq", "ne", "isnan", "isinf"}
_DRAWS = {"bernoulli_", "normal", "empty"}
_FILLED = {"zeros": 0.0, "empty": 0.0, "ones": 1.0}
_WRITES = {"iadd", "isub", "imul", "itruediv", "ipow", "setitem"}
_VIEWS = {
    "getattr", "getitem", "detach", "view", "view_as", "reshape", "flatten", "unflatten", "squeeze",
    "unsqueeze", "expand", "expand_as", "broadcast_to", "permute", "transpose", "t", "select",
    "narrow", "unbind", "chunk", "split", "contiguous", "to", "type_as", "alias",
}  # fmt: skip
_COMBINATIONS = 64


def filled(call: Call) -> Rest:
    """Of a tensor that the forward makes: ``zeros``, ``ones_like``, ``x.new_full(size, 2)``."""
    name = call.name.removeprefix("new_").removesuffix("_like")
    if name == "full":
        value = call.get(2 if call.name.startswith("new_") else 1, "fill_value")
        return float(value) if isinstance(value, (bool, int, float)) else None
    return _FILLED.get(name)


def evaluated(call: Call, rests: Mapping[fx.Node, Rest], *, small: bool = True) -> Rest:
    """Of an operation element by element: try it on what the operands hold.

    An operand of which nothing is known takes several values, and only a 0 that comes out for all
    of them counts. ``small``: on vectors instead of tensors of the operands' own shapes.
    """
    if call.name in _DRAWS or (call.name == "bernoulli" and len(call.args) > 1):
        return None
    unknown = [t for t in rests if rests[t] is None]
    if unknown and call.name in _COMPARISONS:
        return None
    options = [values_of(rest) or (None,) for rest in rests.values()]
    if prod(len(option) for option in options) > _COMBINATIONS:
        return None
    draws = range(2 if unknown else 1)
    results = []
    for choice in product(*options):
        held = dict(zip(rests, choice, strict=True))
        tried = [_tried(call, held, draw, small=small) for draw in draws]
        results.append(total(tried) if unknown else tried[0])
    return one_of(results)


def _tried(call: Call, held: Mapping[fx.Node, float | None], draw: int, *, small: bool) -> Rest:
    values = {t: _values(t, v, (5,) if small else shape_of(t), draw) for t, v in held.items()}
    return _constant(lambda: call.replayed(values), zeros=not any(held.values()))


def _values(node: fx.Node, rest: float | None, shape: tuple[int, ...], draw: int) -> torch.Tensor:
    dtype = node.meta.get("dtype", torch.float32)
    if rest is not None:
        return torch.full(shape, rest).to(dtype)
    some = [-1e4, -1.3, 0.7, 0.2, 1e4] if draw == 0 else [1.0, 2.0, 1.0, 3.0, 1.0]
    if dtype == torch.bool:
        some = [1.0, 0.0, 1.0, 0.0, 1.0]
    count = prod(shape)
    return torch.tensor(some * (count // 5 + 1))[:count].reshape(shape).to(dtype)


def _constant(function: Any, *, zeros: bool) -> float | None:
    """The one value of a result, if it has one. ``zeros``: see ``_steady``."""
    out = _steady(function, zeros=zeros)
    if out is None:
        return None
    value = float(out.detach().flatten()[0])
    return value if isfinite(value) and bool((out == out.flatten()[0]).all()) else None


def _steady(function: Any, *, zeros: bool) -> torch.Tensor | None:
    """A result that is the same each time.

    A function that draws random numbers (a dropout) may leave 0 at 0 (``zeros``: it is given
    nothing else); what it makes of other values is not known.
    """
    with torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        try:
            out = function()
        except Exception:  # not applicable to such small operands: assume the worst
            return None
        if not zeros and not torch.equal(before, torch.get_rng_state()):
            return None
    if not isinstance(out, torch.Tensor) or out.is_complex() or not out.numel():
        return None
    return out


def held(function: Any, shape: Sequence[int], dtype: torch.dtype, rest: Rest) -> Rest:
    """Of the result of ``function`` on a tensor that holds ``rest``; known only if it is.

    Several values are tried in random order: a neuron answers to what came before, too.
    """
    values = values_of(rest)
    if len(values) == 1:
        full = torch.full(tuple(shape), values[0]).to(dtype)
        return _constant(lambda: function(full), zeros=rest == 0.0)
    generator = torch.Generator().manual_seed(0)
    which = torch.randint(0, max(len(values), 1), tuple(shape), generator=generator)
    mixed = torch.tensor(values, dtype=dtype)[which] if values else None
    out = _steady(lambda: function(mixed), zeros=False) if values else None
    return None if out is None else one_of(set(out.double().flatten().tolist()))


def stored(node: fx.Node, tensor: torch.Tensor) -> torch.Tensor | None:
    """A parameter or buffer of a few elements (a threshold, say) that no operation writes to."""
    return _few(tensor.detach()) if not _is_written(node) else None


def computed(call: Call, known: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
    """A result of a few elements, computed from such tensors alone."""
    shape = call.node.meta.get("shape")
    if call.node.op == "call_module" or shape is None or prod(shape) > MANY:
        return None
    if call.name in _DRAWS or "rand" in call.name or _is_written(call.node):
        return None
    if not call.tensors or any(t.name not in known for t in call.tensors):
        return None
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        before = torch.get_rng_state()
        try:
            out = call.replayed({t: known[t.name].clone() for t in call.tensors})
        except Exception:  # not applicable outside its forward: nothing is known
            return None
        if not torch.equal(before, torch.get_rng_state()):
            return None
    return _few(out) if isinstance(out, torch.Tensor) else None


def _few(tensor: torch.Tensor) -> torch.Tensor | None:
    if not 0 < tensor.numel() <= MANY or tensor.is_complex():
        return None
    return tensor.clone() if bool(torch.isfinite(tensor).all()) else None


def _is_written(node: fx.Node) -> bool:
    """Whether the forward writes into a tensor, or into a view of it (``v.view(1).clamp_(0)``)."""
    return any(
        operation(u).endswith("_")
        or operation(u) in _WRITES
        or (operation(u) in _VIEWS and _is_written(u))
        for u in node.users
        if u.op != "call_module"
    )
