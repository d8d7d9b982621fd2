"""What an operation makes of the values that its operands hold at rest, found by trying it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite, prod
from typing import Any

import torch
from torch import fx

from psvit.groups.call import Call, operation, shape_of
from psvit.groups.rest import Rest, agreed, total

_COMPARISONS = {"gt", "ge", "lt", "le", "eq", "ne", "isnan", "isinf"}
_DRAWS = {"bernoulli_", "normal", "empty"}
_FILLED = {"zeros": 0.0, "empty": 0.0, "ones": 1.0}
_WRITES = {"iadd", "isub", "imul", "itruediv", "ipow", "setitem"}


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
    zeros = not any(rests.values())
    results = []
    for draw in range(2 if unknown else 1):
        values = {
            t: _values(t, rest, (5,) if small else shape_of(t), draw) for t, rest in rests.items()
        }
        results.append(_constant(lambda values=values: call.replayed(values), zeros=zeros))
    return agreed(results) if not unknown else total(results)


def _values(node: fx.Node, rest: Rest, shape: tuple[int, ...], draw: int) -> torch.Tensor:
    dtype = node.meta.get("dtype", torch.float32)
    if rest is not None:
        return torch.full(shape, rest).to(dtype)
    some = [-1e4, -1.3, 0.7, 0.2, 1e4] if draw == 0 else [1.0, 2.0, 1.0, 3.0, 1.0]
    if dtype == torch.bool:
        some = [1.0, 0.0, 1.0, 0.0, 1.0]
    count = prod(shape)
    return torch.tensor(some * (count // 5 + 1))[:count].reshape(shape).to(dtype)


def _constant(function: Any, *, zeros: bool) -> Rest:
    """The one value of a result, if it has one.

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
    value = float(out.detach().flatten()[0])
    return value if isfinite(value) and bool((out == out.flatten()[0]).all()) else None


def held(function: Any, shape: Sequence[int], dtype: torch.dtype, rest: Rest) -> Rest:
    """Of the result of ``function`` on a tensor that holds ``rest``; known only if it is one."""
    if rest is None:
        return None
    full = torch.full(tuple(shape), rest).to(dtype)
    return _constant(lambda: function(full), zeros=rest == 0.0)


def buffer_value(node: fx.Node, tensor: torch.Tensor) -> Rest:
    """The value of a buffer with one element (a threshold, say) that no operation writes to."""
    written = any(
        u.op != "call_module" and (operation(u).endswith("_") or operation(u) in _WRITES)
        for u in node.users
    )
    if isinstance(tensor, torch.nn.Parameter) or tensor.numel() != 1 or written:
        return None
    return float(tensor) if not tensor.is_complex() and isfinite(float(tensor)) else None


def number(call: Call, known: Mapping[str, float]) -> Rest:
    """The value of a result with one element, computed from numbers alone."""
    shape = call.node.meta.get("shape")
    if call.node.op == "call_module" or shape is None or prod(shape) != 1:
        return None
    if call.name in _DRAWS or "rand" in call.name:
        return None
    if any(t.name not in known for t in call.tensors):
        return None
    return evaluated(call, {t: known[t.name] for t in call.tensors}, small=False)
