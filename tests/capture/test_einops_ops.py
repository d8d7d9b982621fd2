"""Our rearrange, repeat and reduce are einops' own, and never forget where a size came from."""

from __future__ import annotations

import re
import sys
import types
from typing import Any, ClassVar

import einops
import einops.layers.torch
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from psvit.capture import einops_ops as native
from psvit.errors import CaptureError

PATTERNS = [
    ("b c h w -> b (h w) c", {}),
    ("b (h d) n -> b h n d", {"h": 2}),
    ("b (h d) n -> b h n d", {"d": 3}),
    ("b (h d) (p q) -> (b p) q h d", {"h": 2, "q": 2}),
    ("... (h d) n -> ... h n d", {"h": 2}),
    ("b ... -> ... b", {}),
    ("b ... -> b (...)", {}),
    ("b c n -> b c n 1", {}),
    ("b c n -> b 1 (c n) ()", {}),
    ("b c n -> (b c n)", {}),
    ("b c n->b c n", {}),
]
SHAPES = {3: (4, 6, 8), 4: (4, 6, 2, 8)}


def fits(pattern: str, ndim: int) -> bool:
    """Whether the left side of a pattern is for tensors of this rank."""
    left = re.sub(r"\([^)]*\)", "one", pattern.split("->")[0])
    return "..." in left or len(left.split()) == ndim


class Size(int):
    """An int that counts how often its kin are multiplied or divided, and stays of its kind."""

    def __mul__(self, other: int) -> Size:
        return Size(int.__mul__(self, other))

    __rmul__ = __mul__

    def __floordiv__(self, other: int) -> Size:
        return Size(int.__floordiv__(self, other))


class Spy(torch.Tensor):
    """A tensor whose shape is made of Sizes, and which notes the sizes given to reshape."""

    asked: ClassVar[list[Any]] = []

    @property
    def shape(self) -> Any:  # type: ignore[override]
        return tuple(Size(s) for s in super().shape)

    def reshape(self, *sizes: Any) -> Any:
        Spy.asked += list(sizes[0])
        return super().reshape(*sizes)


@pytest.mark.parametrize(
    ("pattern", "lengths", "ndim"),
    [(p, k, ndim) for p, k in PATTERNS for ndim in (3, 4) if fits(p, ndim)],
)
def test_rearrange_is_einops_rearrange(pattern: str, lengths: dict[str, int], ndim: int) -> None:
    x = torch.arange(torch.Size(SHAPES[ndim]).numel()).reshape(SHAPES[ndim])
    assert torch.equal(
        native.rearrange(x, pattern, **lengths), einops.rearrange(x, pattern, **lengths)
    )


@pytest.mark.parametrize("operation", ["sum", "mean", "max", "min", "prod"])
@pytest.mark.parametrize(
    ("pattern", "lengths"),
    [
        ("b (h d) n -> b h n", {"h": 2}),
        ("b (h 2) n -> h b n", {}),
        ("b ... -> b", {}),
        ("b c ... -> c 1 b", {}),
        ("b c n ->", {}),
        ("... n -> ...", {}),
        ("b (c 3) (n 2) -> b c n", {}),
    ],
)
def test_reduce_is_einops_reduce(pattern: str, lengths: dict[str, int], operation: str) -> None:
    x = torch.rand(4, 6, 8, dtype=torch.float64)
    ours = native.reduce(x, pattern, operation, **lengths)
    assert torch.allclose(ours, einops.reduce(x, pattern, operation, **lengths), rtol=1e-12)


@pytest.mark.parametrize(
    ("pattern", "lengths"),
    [
        ("b c n -> b c n t", {"t": 3}),
        ("b c n -> (t b) c n", {"t": 3}),
        ("b c n -> b (c 2) n 5", {}),
        ("b (h d) n -> b h r d n", {"h": 2, "r": 4}),
        ("b ... -> t b ...", {"t": 2}),
        ("b c n -> b n c", {}),
    ],
)
def test_repeat_is_einops_repeat(pattern: str, lengths: dict[str, int]) -> None:
    x = torch.arange(4 * 6 * 8).reshape(4, 6, 8)
    assert torch.equal(native.repeat(x, pattern, **lengths), einops.repeat(x, pattern, **lengths))


@st.composite
def transformations(draw: st.DrawFn) -> tuple[str, str, dict[str, int], tuple[int, ...]]:
    """A left and a right side over the same elementary axes, grouped at random."""
    names = list("abcdef")[: draw(st.integers(1, 5))]
    sizes = {n: draw(st.integers(1, 4)) for n in names}

    def grouped(order: list[str]) -> list[list[str]]:
        groups: list[list[str]] = []
        for name in order:
            if groups and draw(st.booleans()):
                groups[-1].append(name)
            else:
                groups.append([name])
        return groups

    left, right = grouped(names), grouped(draw(st.permutations(names)))
    shape = tuple(torch.Size([sizes[n] for n in g]).numel() for g in left)
    given_names = [n for g in left for n in g[1:]]
    show = lambda gs: " ".join(f"({' '.join(g)})" if len(g) > 1 else g[0] for g in gs)  # noqa: E731
    return show(left), show(right), {n: sizes[n] for n in given_names}, shape


@given(transformations(), st.integers(0, 2))
@settings(max_examples=120, deadline=None)
def test_any_transformation_is_einops_own(case: Any, dropped: int) -> None:
    left, right, lengths, shape = case
    x = torch.arange(torch.Size(shape).numel(), dtype=torch.float64).reshape(shape)
    pattern = f"{left} -> {right}"
    assert torch.equal(
        native.rearrange(x, pattern, **lengths), einops.rearrange(x, pattern, **lengths)
    )
    shorter = f"{left} -> {' '.join(right.replace('(', '').replace(')', '').split()[dropped:])}"
    ours = native.reduce(x, shorter, "sum", **lengths)
    assert torch.equal(ours, einops.reduce(x, shorter, "sum", **lengths))
    copies = f"{left} -> new {right}"
    ours = native.repeat(x, copies, new=3, **lengths)
    assert torch.equal(ours, einops.repeat(x, copies, new=3, **lengths))


def test_a_list_of_tensors_is_stacked() -> None:
    xs = [torch.rand(2, 3) for _ in range(4)]
    assert torch.equal(
        native.rearrange(xs, "t b c -> b (t c)"), einops.rearrange(xs, "t b c -> b (t c)")
    )


def test_a_callable_reduces() -> None:
    x = torch.rand(2, 3, 5)
    last = lambda t, dims: t.sum(dims)  # noqa: E731
    assert torch.equal(native.reduce(x, "a b c -> b", last), einops.reduce(x, "a b c -> b", last))


@pytest.mark.parametrize(
    ("pattern", "lengths"),
    [
        ("b c n", {}),
        ("b c -> b c", {}),
        ("b c c -> b c", {}),
        ("b (c n -> b c n", {}),
        ("b c) n -> b c n", {}),
        ("b ((c d)) n -> b c d n", {}),
        ("b (c d) n -> b c d n", {}),
        ("b (c d) n -> b c d n", {"c": 4}),
        ("b (c d) n -> b c d n", {"c": 2, "d": 2}),
        ("b c n -> b c", {}),
        ("b c n -> b c n d", {"d": 2}),
        ("b c n -> b c n", {"d": 2}),
        ("b c n -> b c ...", {}),
        ("b (...) n -> b n ...", {}),
        ("b c-d n -> b n", {}),
    ],
)
def test_a_pattern_that_einops_refuses_is_refused(pattern: str, lengths: dict[str, int]) -> None:
    x = torch.rand(4, 6, 8)
    with pytest.raises((einops.EinopsError, ValueError)):
        einops.rearrange(x, pattern, **lengths)
    with pytest.raises(CaptureError):
        native.rearrange(x, pattern, **lengths)


def test_an_unknown_reduction_is_refused() -> None:
    with pytest.raises(CaptureError, match="median"):
        native.reduce(torch.rand(2, 3), "a b -> a", "median")


def test_sizes_stay_of_their_kind() -> None:
    x = torch.rand(4, 6, 8).as_subclass(Spy)
    Spy.asked = []
    native.rearrange(x, "b (h d) n -> (b n) h d", h=2)
    symbolic = [s for s in Spy.asked if isinstance(s, Size)]
    # split: b, d, n (h is ours to give); merged: b * n, d
    assert sorted(symbolic) == [3, 3, 4, 8, 32]


def test_served_wherever_it_was_imported_and_restored() -> None:
    originals = (einops.rearrange, einops.repeat, einops.reduce)
    outside = types.ModuleType("a_module_that_sys_modules_does_not_know")
    exec("from einops import rearrange as turn, repeat", vars(outside))
    inside = types.ModuleType("a_module_that_imported_einops")
    exec("from einops import reduce", vars(inside))
    sys.modules[inside.__name__] = inside
    layer_forward = einops.layers.torch.Rearrange.forward
    seen: list[bool] = []

    def fail_inside() -> None:
        with native.serve_einops():
            seen.append(einops.rearrange is not originals[0])
            seen.append(outside.turn is einops.rearrange)
            seen.append(outside.repeat is einops.repeat)
            seen.append(inside.reduce is einops.reduce)
            seen.append(einops.layers.torch.Rearrange.forward is not layer_forward)
            raise ZeroDivisionError

    try:
        with pytest.raises(ZeroDivisionError):
            fail_inside()
    finally:
        del sys.modules[inside.__name__]
    assert seen == [True] * 5
    assert (einops.rearrange, einops.repeat, einops.reduce) == originals
    assert (outside.turn, outside.repeat, inside.reduce) == originals
    assert einops.layers.torch.Rearrange.forward is layer_forward


def test_served_functions_and_layers_give_what_einops_gives() -> None:
    x = torch.rand(2, 6, 5)
    layers = nn.Sequential(
        einops.layers.torch.Rearrange("b (h d) n -> b h n d", h=2),
        einops.layers.torch.Reduce("b h n d -> b h d", "mean"),
    )
    plain = layers(x), einops.repeat(x, "b c n -> t b c n", t=3)
    with native.serve_einops():
        served = layers(x), einops.repeat(x, "b c n -> t b c n", t=3)
    assert torch.equal(plain[0], served[0])
    assert torch.equal(plain[1], served[1])


def test_served_leaves_other_arrays_and_errors_to_einops() -> None:
    array = torch.rand(2, 3).numpy()
    with native.serve_einops():
        assert einops.rearrange(array, "a b -> b a").shape == (3, 2)
        with pytest.raises(einops.EinopsError):
            einops.rearrange(torch.rand(2, 3), "a b -> a")
