"""Indices of two plans as one; that rewriting agrees is a law of its own."""

from __future__ import annotations

import pytest

from psvit.artefacts import compose
from psvit.errors import PlanError
from psvit.records import InputSpec, Plan, Source, Width


def plan(keep, widths=(), fingerprint="f", source=None):
    return Plan(keep, widths, fingerprint, (InputSpec((2, 1, 8, 8)),), source)


def test_second_indices_are_looked_up_in_the_first():
    first = plan({"a": {"0": (0, 2, 4, 6, 8)}, "b": {"1": (1, 3)}})
    second = plan({"a": {"0": (1, 4), "1": (5,)}, "c": {"0": (7,)}})
    assert compose(first, second).keep == {
        "a": {"0": (2, 8), "1": (5,)},
        "b": {"1": (1, 3)},
        "c": {"0": (7,)},
    }


def test_grouped_convolution_inputs_are_looked_up_over_the_whole_layer():
    first = plan({"w": {"in": (0, 1, 5, 6)}})
    second = plan({"w": {"in": (1, 2)}})
    assert compose(first, second).keep == {"w": {"in": (1, 5)}}


def test_the_empty_plan_is_neutral_on_both_sides():
    some = plan({"a": {"0": (0, 3)}}, (Width("a", "hidden", 4, 2),))
    empty = plan({}, ())
    assert compose(some, empty) == some
    assert compose(empty, some) == some


def test_composition_is_associative():
    a = plan({"w": {"0": (0, 1, 2, 4, 5, 7)}})
    b = plan({"w": {"0": (0, 2, 3, 5)}})
    c = plan({"w": {"0": (1, 3)}})
    assert compose(compose(a, b), c) == compose(a, compose(b, c))


def test_identity_of_the_original_and_widths_over_both():
    first = plan({}, (Width("x", "qk", 8, 6), Width("y", "v", 4, 3)), "first", Source("m:f"))
    second = plan({}, (Width("x", "qk", 6, 5), Width("z", "hidden", 9, 7)), "second")
    both = compose(first, second)
    assert both.fingerprint == "first"
    assert both.source == Source("m:f")
    assert both.widths == (
        Width("x", "qk", 8, 5),
        Width("y", "v", 4, 3),
        Width("z", "hidden", 9, 7),
    )


def test_plan_of_another_model_is_noticed():
    with pytest.raises(PlanError, match=r"keeps index 2 of w along dim 0.*first left 2"):
        compose(plan({"w": {"0": (0, 1)}}), plan({"w": {"0": (0, 2)}}))
