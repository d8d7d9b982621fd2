"""Two plans as one: rewriting twice equals rewriting once with the composition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from psvit.errors import PlanError
from psvit.records import Plan, Width

Dims = Mapping[str, tuple[int, ...]]


def compose(first: Plan, second: Plan) -> Plan:
    """The plan that does at once what `first` and then `second` do.

    `second` was made for the model that `first` leaves behind, so its indices count what
    `first` kept; the result counts in the original. Fingerprint, inputs and source are those
    of `first`, because they describe the original.

    Raises PlanError if `second` keeps an index that `first` did not leave.
    """
    names = sorted({*first.keep, *second.keep})
    keep = {
        name: _dims(name, first.keep.get(name, {}), second.keep.get(name, {})) for name in names
    }
    return replace(first, keep=keep, widths=_widths(first.widths, second.widths))


def _dims(name: str, first: Dims, second: Dims) -> dict[str, tuple[int, ...]]:
    if {"1", "in"} <= {*first, *second}:
        raise PlanError(
            f'the plans say in two ways which inputs of {name} stay ("1" and "in"): '
            "prune the original model with one budget instead"
        )
    out = {**second, **first}
    for dim in {*first} & {*second}:
        left = first[dim]
        if any(index >= len(left) for index in second[dim]):
            raise PlanError(
                f"the second plan keeps index {max(second[dim])} of {name} along dim {dim}, "
                f"of which the first left {len(left)}: it was made for another model"
            )
        out[dim] = tuple(left[index] for index in second[dim])
    return out


def _widths(first: tuple[Width, ...], second: tuple[Width, ...]) -> tuple[Width, ...]:
    """Widths from the original to the end; groups are recognised by name and role."""
    later = {(w.name, w.role): w for w in second}
    joined = []
    for width in first:
        then = later.pop((width.name, width.role), None)
        joined.append(width if then is None else replace(width, after=then.after))
    return (*joined, *later.values())
