"""What a removed channel holds at rest: arithmetic on the ``rest`` of fields.

In the reference, a model whose removed parameters are zeroed, every element of a removed channel
of a tensor has one value, if one can be told: 0 behind a layer, 1 after ``1 - spike``, 0 again
after the membrane potential was multiplied by that. Where the value is 0, a sum over channels
loses nothing by losing the channel. ``None``: the value is not known.
"""

from __future__ import annotations

from collections.abc import Sequence

Rest = float | None


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
