"""Labels behind what has no rule: kept on evidence alone, locked where there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import fx

from psvit.groups.call import Call, shape_of
from psvit.groups.labelling import Fields
from psvit.groups.probe import commutes, samples, small_shape
from psvit.groups.rest import agreed
from psvit.groups.trials import held


def evidence(
    call: Call,
    fields: Fields,
    source: fx.Node,
    function: Callable[..., Any],
    what: str,
    *,
    trained: Callable[..., Any] | None = None,
    key: object = None,
) -> Any:
    """Keep the fields on whose axes ``function`` acts element by element; lock the others.

    ``trained``: the function in train mode, if that is another, which has to agree on what a
    removed channel holds. ``key`` identifies the function where the same is tried many times (a
    model's neurons).
    """
    shape, dtype = shape_of(source), source.meta["dtype"]
    small = tuple(
        min(s, 6) if any(d in f.varying for f in fields) else min(s, 4)
        for d, s in enumerate(small_shape(shape))
    )
    same = "shape" in call.node.meta and len(call.shape) == len(shape)
    known = call.state.probed if key is not None else {}
    kept: Fields = []
    for f in fields:
        question = (key, small, dtype, f.varying, f.rest)
        if question not in known:
            local = all(
                commutes(function, [x], d - len(shape))
                for d in f.varying
                for x in samples(small, dtype)
            )
            modes = [mode for mode in (function, trained) if mode is not None]
            known[question] = local, agreed([held(mode, small, dtype, f.rest) for mode in modes])
        local, rest = known[question]
        if not (local and same and all(call.shape[d] == shape[d] for d in f.varying)):
            call.state.lock([f], f"{what} does not act on each channel alone")
            continue
        kept.append(replace(f, rest=rest))
    return [[] for _ in call.parts] if call.parts else kept
