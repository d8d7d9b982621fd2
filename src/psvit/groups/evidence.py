"""Labels behind what has no rule: kept on evidence alone, locked where there is none."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import replace
from typing import Any

from torch import fx

from psvit.groups.call import Call, shape_of
from psvit.groups.labelling import Fields
from psvit.groups.probe import commutes, samples
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

    The arguments are those of ``examined``.
    """
    kept, others = examined(call, fields, source, function, trained=trained, key=key)
    call.state.lock(others, f"{what} does not act on each channel alone")
    return [[] for _ in call.parts] if call.parts else kept


def examined(
    call: Call,
    fields: Fields,
    source: fx.Node,
    function: Callable[..., Any],
    *,
    trained: Callable[..., Any] | None = None,
    key: object = None,
    whole: Container[int] = (),
) -> tuple[Fields, Fields]:
    """The fields on whose axes ``function`` acts element by element, and the others.

    ``trained``: the function in train mode, if that is another, which has to agree on what a
    removed channel holds. ``key`` identifies the function where the same is tried many times (a
    model's neurons). It is tried on small tensors, but axes of the sizes ``whole`` keep them.
    """
    shape, dtype = shape_of(source), source.meta["dtype"]
    small = tuple(
        s if s in whole else min(s, 6 if any(d in f.varying for f in fields) else 4)
        for d, s in enumerate(shape)
    )
    same = "shape" in call.node.meta and len(call.shape) == len(shape)
    known = call.state.probed if key is not None else {}
    kept, others = [], []
    for f in fields:
        # what adds up over many time steps shows on the tensor as it is only
        size = small if f.rest == 0.0 else shape
        question = (key, small, size, dtype, f.varying, f.rest)
        if question not in known:
            local = all(
                commutes(function, [x], d - len(shape))
                for d in f.varying
                for x in samples(small, dtype)
            )
            modes = [mode for mode in (function, trained) if mode is not None]
            known[question] = local, agreed([held(mode, size, dtype, f.rest) for mode in modes])
        local, rest = known[question]
        if local and same and all(call.shape[d] == shape[d] for d in f.varying):
            kept.append(replace(f, rest=rest))
        else:
            others.append(f)
    return kept, others
