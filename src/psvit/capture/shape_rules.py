"""What shapes come out of the commonest operations: one rule an operation.

PyTorch has a meta kernel for nearly every operation, which serves all others. But many of them are
written in Python and bring in its compiler or its symbolic algebra, which take longer to import
than a small model takes to run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest
from math import prod
from typing import Any, NamedTuple

import torch

META = torch.device("meta")

Rule = Callable[..., Any]
"""Takes an operation and its arguments; gives what it gives, or None where it does not know."""


class Shape(NamedTuple):
    """All that an operation sees of a tensor without data."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype


def made(shape: Shape) -> torch.Tensor:
    """A tensor of this shape without data."""
    return torch.empty_strided(shape.size, shape.stride, dtype=shape.dtype, device=META)


def elementwise(func: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
    """Any operation on elements: really run, on tensors of which no axis is longer than 2.

    The dtype is that of the small result, and the axes lie in memory in the same order.
    """
    size: tuple[int, ...] = ()
    for value in (*args, *kwargs.values()):
        if isinstance(value, torch.Tensor):
            size = _broadcast(size, tuple(value.shape))
    small = func(
        *(_small(a) if isinstance(a, torch.Tensor) else a for a in args),
        **{k: _small(a) if isinstance(a, torch.Tensor) else a for k, a in kwargs.items()},
    )
    return _laid_out(size, small)


def _broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    pairs = list(zip_longest(reversed(a), reversed(b), fillvalue=1))
    if any(x != y and 1 not in (x, y) for x, y in pairs):
        raise ValueError(f"shapes {list(a)} and {list(b)} do not broadcast")
    return tuple(y if x == 1 else x for x, y in reversed(pairs))


def _small(tensor: torch.Tensor) -> torch.Tensor:
    """Ones, with data, of a shape and layout like that of ``tensor`` but at most 2 long."""
    size, strides = [min(s, 2) for s in tensor.shape], tensor.stride()
    order = sorted(range(len(size)), key=lambda d: (-strides[d], d))
    laid = torch.ones([size[d] for d in order], dtype=tensor.dtype)
    laid = laid.permute([order.index(d) for d in range(len(size))])
    for d, stride in enumerate(strides):
        if stride == 0 and size[d] > 1:
            laid = laid.narrow(d, 0, 1).expand(size)
    return laid


def _laid_out(size: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    """A dense tensor of ``size`` whose axes are in the order that those of ``like`` are."""
    strides = like.stride()
    order = sorted(range(len(size)), key=lambda d: (-strides[d], d))
    full, step = [0] * len(size), 1
    for d in reversed(order):
        full[d], step = step, step * max(size[d], 1)
    return made(Shape(size, tuple(full), like.dtype))


def _like_images(size: tuple[int, ...], *tensors: torch.Tensor) -> tuple[int, ...]:
    """The strides of a layer's result: channels last if that is how its operands lie."""
    last = len(size) == 4 and any(
        t.ndim == 4 and not t.is_contiguous() and t.is_contiguous(memory_format=torch.channels_last)
        for t in tensors
    )
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty(size, device=META, memory_format=layout).stride()


def _mm(func: Any, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """``[..., I, J], [..., J, K] -> [..., I, K]`` with equal leading axes."""
    if a.shape[:-2] != b.shape[:-2] or a.shape[-1] != b.shape[-2] or a.dtype != b.dtype:
        raise ValueError(f"{list(a.shape)} and {list(b.shape)} cannot be multiplied")
    return a.new_empty((*a.shape[:-1], b.shape[-1]))


def _addmm(
    func: Any, bias: torch.Tensor, a: torch.Tensor, b: torch.Tensor, **kwargs: Any
) -> torch.Tensor:
    product = _mm(func, a, b)
    if _broadcast(tuple(bias.shape), tuple(product.shape)) != tuple(product.shape):
        raise ValueError(f"a bias of shape {list(bias.shape)} for {list(product.shape)}")
    return product


def _convolution(
    func: Any,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> torch.Tensor | None:
    kernel = weight.shape[2:]
    lists = (stride, padding, dilation)
    if transposed or x.ndim != weight.ndim or any(len(one) != len(kernel) for one in lists):
        return None
    if (
        x.shape[1] != weight.shape[1] * groups
        or weight.shape[0] % groups
        or x.dtype != weight.dtype
    ):
        raise ValueError(f"a convolution of {list(x.shape)} by {list(weight.shape)}")
    space = _windows(x.shape[2:], kernel, stride, padding, dilation)
    size = (x.shape[0], weight.shape[0], *space)
    return made(Shape(size, _like_images(size, x, weight), x.dtype))


def _max_pool(
    func: Any,
    x: torch.Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    ceil_mode: bool = False,
) -> Any:
    lists = (kernel, stride or kernel, padding, dilation)
    if ceil_mode or x.ndim != 4 or not x.is_contiguous() or any(len(one) != 2 for one in lists):
        return None
    size = (*x.shape[:2], *_windows(x.shape[2:], *lists))
    return x.new_empty(size), x.new_empty(size, dtype=torch.int64)


def _windows(
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> list[int]:
    """How many windows of a kernel there are on each axis."""
    five = zip(size, kernel, stride, padding, dilation, strict=True)
    space = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in five]
    if min(space) < 1:
        raise ValueError(f"no window of {list(kernel)} fits into {list(size)}")
    return space


def _batch_norm(func: Any, x: torch.Tensor, *rest: Any, **kwargs: Any) -> Any:
    """``native_batch_norm(x, weight, bias, mean, variance, training, momentum, eps)``."""
    training, channels = rest[4], x.shape[1]
    if any(t is not None and t.shape != (channels,) for t in rest[:4]):
        raise ValueError(f"a batch norm of other than {channels} channels")
    kept = Shape((channels if training else 0,), (1,), x.dtype)
    size = tuple(x.shape)
    return made(Shape(size, _like_images(size, x), x.dtype)), made(kept), made(kept)


def _reduced(
    func: Any, x: torch.Tensor, dims: Any, keepdim: bool = False, *, dtype: Any = None
) -> Any:
    """A sum or a mean over axes."""
    if not (dtype or x.dtype).is_floating_point:
        return None
    gone = {d % x.ndim for d in dims} if dims else set(range(x.ndim))
    kept = ((d, s) for d, s in enumerate(x.shape) if keepdim or d not in gone)
    return x.new_empty([1 if d in gone else s for d, s in kept], dtype=dtype or x.dtype)


def _cat(func: Any, tensors: Sequence[torch.Tensor], dim: int = 0) -> Any:
    first = tensors[0]
    dim %= max(first.ndim, 1)
    rests = {(t.ndim, t.dtype, *t.shape[:dim], *t.shape[dim + 1 :]) for t in tensors}
    if len(rests) > 1 or not all(t.is_contiguous() for t in tensors):
        return None
    length = sum(t.shape[dim] for t in tensors)
    return first.new_empty((*first.shape[:dim], length, *first.shape[dim + 1 :]))


def _stack(func: Any, tensors: Sequence[torch.Tensor], dim: int = 0) -> Any:
    first = tensors[0]
    if len({(t.dtype, t.shape) for t in tensors}) > 1:
        return None
    dim %= first.ndim + 1
    return first.new_empty((*first.shape[:dim], len(tensors), *first.shape[dim:]))


def _repeat(func: Any, x: torch.Tensor, times: Sequence[int]) -> Any:
    if len(times) < x.ndim or prod(times) < 1:
        return None
    size = (1,) * (len(times) - x.ndim) + tuple(x.shape)
    return x.new_empty([s * n for s, n in zip(size, times, strict=True)])


def _like(func: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    """``zeros_like(x)``, ``full_like(x, value)``."""
    if kwargs.get("memory_format") not in (None, torch.preserve_format):
        return None
    return _laid_out(tuple(x.shape), _small(x).to(kwargs.get("dtype") or x.dtype))


_ATEN = torch.ops.aten
RULES: dict[Any, Rule] = {
    _ATEN.mm.default: _mm,
    _ATEN.bmm.default: _mm,
    _ATEN.addmm.default: _addmm,
    _ATEN.convolution.default: _convolution,
    _ATEN.max_pool2d_with_indices.default: _max_pool,
    _ATEN.native_batch_norm.default: _batch_norm,
    _ATEN.mean.dim: _reduced,
    _ATEN.sum.dim_IntList: _reduced,
    _ATEN.cat.default: _cat,
    _ATEN.stack.default: _stack,
    _ATEN.repeat.default: _repeat,
    _ATEN.zeros_like.default: _like,
    _ATEN.ones_like.default: _like,
    _ATEN.full_like.default: _like,
}
