"""einops' rearrange, repeat and reduce, out of plain reshape / permute / expand / reductions.

einops caches its recipes on plain integers, so a recording of its calls would hold today's batch
size for ever. Here every size is read from ``x.shape`` and only ever multiplied or floor-divided,
so an int that remembers where it came from keeps remembering. ``serve_einops`` puts these
functions in the place of einops' own, wherever those have been imported to.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from torch import Tensor, stack

from psvit.errors import CaptureError

Axis = str
Side = tuple[tuple[Axis, ...], ...]
"""One side of a pattern: for each axis of the tensor, the elementary axes it is composed of."""

ELLIPSIS = "..."
BARE = ("...", "bare")
"""An ellipsis outside brackets, which is as many axes as it takes; inside it is one."""
REDUCTIONS: Mapping[str, Callable[[Tensor, list[int]], Tensor]] = {
    "sum": lambda x, dims: x.sum(dim=dims),
    "mean": lambda x, dims: x.mean(dim=dims),
    "max": lambda x, dims: x.amax(dim=dims),
    "min": lambda x, dims: x.amin(dim=dims),
    "prod": lambda x, dims: _one_by_one(x, dims, Tensor.prod),
    "any": lambda x, dims: _one_by_one(x, dims, Tensor.any),
    "all": lambda x, dims: _one_by_one(x, dims, Tensor.all),
}


def rearrange(tensor: Tensor | Sequence[Tensor], pattern: str, **axes_lengths: Any) -> Tensor:
    """``einops.rearrange``: reorder, split and merge axes. Raises CaptureError."""
    return _transform(tensor, pattern, None, axes_lengths)


def repeat(tensor: Tensor | Sequence[Tensor], pattern: str, **axes_lengths: Any) -> Tensor:
    """``einops.repeat``: also copy along axes new on the right side. Raises CaptureError."""
    return _transform(tensor, pattern, "repeat", axes_lengths)


def reduce(
    tensor: Tensor | Sequence[Tensor], pattern: str, reduction: Any, **axes_lengths: Any
) -> Tensor:
    """``einops.reduce``: also reduce the axes gone from the right side. Raises CaptureError."""
    return _transform(tensor, pattern, reduction, axes_lengths)


_NATIVES: Mapping[str, Callable[..., Tensor]] = {
    "rearrange": rearrange,
    "repeat": repeat,
    "reduce": reduce,
}
Holder = tuple[dict[str, Any], str, Any]
"""A namespace, a name in it, and the function of einops that goes by it."""


def find_einops() -> list[Holder]:
    """Every name by which somebody can call einops' functions. Takes a look at all objects."""
    if "einops" not in sys.modules:
        return []
    originals = [getattr(sys.modules["einops"], name) for name in _NATIVES]
    ids = {id(original) for original in originals}
    # Whoever wrote `from einops import rearrange` holds the function itself. Asking who refers
    # to it also finds modules that were loaded under a private name, outside sys.modules.
    return [
        (owner, name, value)
        for owner in gc.get_referrers(*originals)
        if type(owner) is dict and "__name__" in owner
        for name, value in list(owner.items())
        if id(value) in ids
    ]


@contextmanager
def serve_einops(found: list[Holder] | None = None) -> Iterator[None]:
    """Let every caller of einops run the functions above, until the block is left.

    einops itself is not imported here: where nobody has imported it, nobody calls it.
    ``found``: what ``find_einops`` gives, where it is known.
    """
    if "einops" not in sys.modules:
        yield
        return
    undo: list[tuple[Any, str, Any]] = []
    try:
        _replace_functions(find_einops() if found is None else found, undo)
        _replace_layers(undo)
        yield
    finally:
        for owner, name, original in reversed(undo):
            _put(owner, name, original)


def _replace_functions(found: list[Holder], undo: list[tuple[Any, str, Any]]) -> None:
    served = {
        id(original): _served(native, original)
        for native, original in ((_NATIVES[value.__name__], value) for _, _, value in found)
    }
    for owner, name, value in found:
        undo.append((owner, name, value))
        owner[name] = served[id(value)]


def _replace_layers(undo: list[tuple[Any, str, Any]]) -> None:
    layers = sys.modules.get("einops.layers.torch")
    if layers is None:
        return

    def rearrange_forward(self: Any, input: Tensor) -> Tensor:
        return rearrange(input, self.pattern, **self.axes_lengths)

    def reduce_forward(self: Any, input: Tensor) -> Tensor:
        return reduce(input, self.pattern, self.reduction, **self.axes_lengths)

    for kind, forward in ((layers.Rearrange, rearrange_forward), (layers.Reduce, reduce_forward)):
        undo.append((kind, "forward", kind.forward))
        kind.forward = forward


def _put(owner: Any, name: str, value: Any) -> None:
    if isinstance(owner, dict):
        owner[name] = value
    else:
        setattr(owner, name, value)


def _served(native: Callable[..., Tensor], original: Callable[..., Any]) -> Callable[..., Any]:
    def serve(tensor: Any, *args: Any, **kwargs: Any) -> Any:
        first = tensor[0] if isinstance(tensor, (list, tuple)) and tensor else tensor
        if not isinstance(first, Tensor):
            return original(tensor, *args, **kwargs)
        try:
            return native(tensor, *args, **kwargs)
        except CaptureError:
            return original(tensor, *args, **kwargs)  # einops words its own errors best

    return serve


def _transform(
    tensor: Tensor | Sequence[Tensor], pattern: str, operation: Any, lengths: Mapping[str, Any]
) -> Tensor:
    """Split the axes, reduce, permute, copy, merge. ``operation`` is None for a rearrange."""
    x = tensor if isinstance(tensor, Tensor) else stack(list(tensor))
    left, right = _parse(pattern, x.ndim)
    sizes = _sizes(x, left, lengths, pattern)
    flat = [axis for group in left for axis in group]
    wanted = [axis for group in right for axis in group]
    gone = [i for i, axis in enumerate(flat) if axis not in wanted]
    new = [axis for axis in wanted if axis not in flat]
    _check(operation, [flat[i] for i in gone], new, set(flat) | set(new), lengths, pattern)

    if any(len(group) != 1 for group in left):
        x = x.reshape([sizes[axis] for axis in flat])
    if gone:
        x = operation(x, tuple(gone)) if callable(operation) else REDUCTIONS[operation](x, gone)
    left_over = [axis for axis in flat if axis in wanted]
    order = [left_over.index(axis) for axis in wanted if axis in left_over]
    if order != sorted(order):
        x = x.permute(order)
    if new:
        for axis in new:
            sizes[axis] = lengths[axis] if axis in lengths else _anonymous(axis)
            x = x.unsqueeze(wanted.index(axis))
        x = x.expand([sizes[axis] if axis in new else -1 for axis in wanted])
    if any(len(group) != 1 for group in right):
        x = x.reshape([_product([sizes[axis] for axis in group]) for group in right])
    return x


def _sizes(x: Tensor, left: Side, lengths: Mapping[str, Any], pattern: str) -> dict[Axis, Any]:
    """The length of every elementary axis of the left side."""
    sizes: dict[Axis, Any] = {}
    for size, group in zip(x.shape, left, strict=True):
        known = [
            lengths[a] if a in lengths else _anonymous(a)
            for a in group
            if a in lengths or _is_anonymous(a)
        ]
        unknown = [a for a in group if a not in lengths and not _is_anonymous(a)]
        if len(unknown) > 1:
            raise CaptureError(
                f"einops pattern {pattern!r} leaves {unknown} open: give all of them but one"
            )
        # Plain integers here: a check is no part of what is computed.
        product = 1
        for k in known:
            product = int.__mul__(product, k)
        exact = product == size if not unknown else product > 0 and int.__mod__(size, product) == 0
        if not exact:
            raise CaptureError(
                f"einops pattern {pattern!r} does not fit: an axis has {size} elements, "
                f"expected {'' if not unknown else 'a multiple of '}{product}"
            )
        for axis in group:
            if axis in unknown:
                sizes[axis] = size // _product(known) if known else size
            else:
                sizes[axis] = lengths[axis] if axis in lengths else _anonymous(axis)
    return sizes


def _check(
    operation: Any,
    gone: Sequence[Axis],
    new: Sequence[Axis],
    named: set[Axis],
    lengths: Mapping[str, Any],
    pattern: str,
) -> None:
    if new and operation != "repeat":
        raise CaptureError(f"einops pattern {pattern!r}: {new} are on the right side only")
    if gone and operation in (None, "repeat"):
        raise CaptureError(f"einops pattern {pattern!r}: {gone} are on the left side only")
    if gone and not callable(operation) and operation not in REDUCTIONS:
        raise CaptureError(f"einops has no reduction {operation!r}: one of {sorted(REDUCTIONS)}")
    missing = [axis for axis in new if axis not in lengths and not _is_anonymous(axis)]
    if missing:
        raise CaptureError(f"einops pattern {pattern!r}: the lengths of {missing} are not given")
    foreign = [axis for axis in lengths if axis not in named]
    if foreign:
        raise CaptureError(f"einops pattern {pattern!r} has no axes {foreign}")


@lru_cache(maxsize=256)
def _parse(pattern: str, ndim: int) -> tuple[Side, Side]:
    """Both sides of a pattern, the ellipsis spelt out for a tensor of ``ndim`` axes."""
    sides = pattern.split("->")
    if len(sides) != 2:
        raise CaptureError(f"einops pattern {pattern!r} needs exactly one '->'")
    left, right = (_side(text, mark, pattern) for text, mark in zip(sides, "<>", strict=True))
    if ELLIPSIS in {a for group in right for a in group} and BARE not in left:
        raise CaptureError(f"einops pattern {pattern!r} has an ellipsis on the right side only")
    filler: tuple[Axis, ...] = ()
    if BARE in left:
        filler = tuple(f"...{i}" for i in range(ndim - len(left) + 1))
    left = tuple(g for group in left for g in _spell(group, filler))
    right = tuple(g for group in right for g in _spell(group, filler))
    if len(left) != ndim:
        raise CaptureError(
            f"einops pattern {pattern!r} names {len(left)} axes, the tensor has {ndim}"
        )
    return left, right


def _spell(group: tuple[Axis, ...], filler: tuple[Axis, ...]) -> Iterator[tuple[Axis, ...]]:
    if group == BARE:
        yield from ((axis,) for axis in filler)
    else:
        yield tuple(a for axis in group for a in (filler if axis == ELLIPSIS else (axis,)))


def _side(text: str, mark: str, pattern: str) -> Side:
    """One side, an ellipsis still as such; numbers become axes of their own, one each."""
    side: list[tuple[Axis, ...]] = []
    group: list[Axis] | None = None
    seen: set[Axis] = set()
    for i, token in enumerate(_tokens(text)):
        if token == "(":
            if group is not None:
                raise CaptureError(f"einops pattern {pattern!r} has brackets inside brackets")
            group = []
        elif token == ")":
            if group is None:
                raise CaptureError(f"einops pattern {pattern!r} has unbalanced brackets")
            side.append(tuple(group))
            group = None
        else:
            axis = () if token == "1" else (f"{token}{mark}{i}" if token.isdecimal() else token,)
            if token != ELLIPSIS and not token.isdecimal() and not token.isidentifier():
                raise CaptureError(f"einops pattern {pattern!r}: {token!r} is no name of an axis")
            if seen & set(axis):
                raise CaptureError(f"einops pattern {pattern!r} names {token!r} twice")
            seen |= set(axis)
            if group is None:
                side.append(BARE if token == ELLIPSIS else axis)
            elif token == ELLIPSIS and mark == "<":
                raise CaptureError(f"einops pattern {pattern!r}: no '(...)' on the left side")
            else:
                group.extend(axis)
    if group is not None:
        raise CaptureError(f"einops pattern {pattern!r} has unbalanced brackets")
    return tuple(side)


def _tokens(text: str) -> list[str]:
    return text.replace("(", " ( ").replace(")", " ) ").replace("...", " ... ").split()


def _is_anonymous(axis: Axis) -> bool:
    return axis[0].isdecimal()


def _anonymous(axis: Axis) -> int:
    return int(axis.replace(">", "<").split("<")[0])


def _product(sizes: Sequence[Any]) -> Any:
    """The product; a single size is itself, so that nothing is recorded for it."""
    result: Any = 1
    for i, size in enumerate(sizes):
        result = size if i == 0 else result * size
    return result


def _one_by_one(x: Tensor, dims: list[int], method: Callable[..., Tensor]) -> Tensor:
    for dim in sorted(dims, reverse=True):
        x = method(x, dim)
    return x
