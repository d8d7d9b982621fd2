"""What a removed channel holds at rest: arithmetic on the ``rest`` of fields.

In the reference, a model whose removed parameters are zeroed, every element of a removed channel
of a tensor has one value, if one can be told: 0 behind a layer, 1 after ``1 - spike``, 0 again
after the membrane potential was multiplied by that. Where the value is 0, a sum over channels
loses nothing by losing the channel. Several values, in ascending order: one of them, which one
depends on where the element is (a threshold for each time step). ``None``: not known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Rest = float | tuple[float, ...] | None

MANY = 16
"""More values than this are as good as none."""


def values_of(rest: Rest) -> tuple[float, ...]:
    """The values that a known rest stands for; none if it is not known."""
    if rest is None:
        return ()
    return rest if isinstance(rest, tuple) else (rest,)


def one_of(rests: Iterable[Rest]) -> Rest:
    """Where it is one of these, and which one is not known."""
    values: set[float] = set()
    for rest in rests:
        if rest is None:
            return None
        values |= set(values_of(rest))
    if not values or len(values) > MANY:
        return None
    return values.pop() if len(values) == 1 else tuple(sorted(values))


def product(rests: Sequence[Rest]) -> Rest:
    """Of a product: one factor 0 suffices."""
    return 0.0 if 0.0 in rests else None


def total(rests: Sequence[Rest]) -> Rest:
    """Of a sum: all must be 0."""
    return 0.0 if all(r == 0.0 for r in rests) else None


def agreed(rests: Sequence[Rest]) -> Rest:
    """Of tensors put side by side: what all of them hold."""
    return rests[0] if rests and all(r == rests[0] for r in rests) else None


def nothing(rest: Rest) -> Rest:
    """Of a result that is 0 for zeros, and otherwise unknown."""
    return 0.0 if rest == 0.0 else None
