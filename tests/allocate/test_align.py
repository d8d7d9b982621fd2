"""Aligned widths: every width stays a multiple, or becomes one; the rest is left and said."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from psvit.allocate import METHODS, build_ladders, pose
from psvit.allocate.events import levels_after
from psvit.allocate.uniform import events
from psvit.errors import BudgetError, OptionError
from psvit.records import Group, Groups, Slot
from tests.allocate.synthetic import Hidden, chain, random_scores

hidden = st.builds(Hidden, st.integers(1, 40), st.integers(1, 4), st.booleans())


@settings(max_examples=150, deadline=None)
@given(
    st.lists(hidden, min_size=1, max_size=4),
    st.sampled_from([2, 4, 8, 16]),
    st.floats(0.01, 0.8),
)
def test_every_pruned_width_is_a_multiple(layers: list, align: int, goal: float) -> None:
    graph, groups = chain(layers)
    problem = pose(graph, groups, random_scores(groups), {"memory": goal}, align=align)
    try:
        levels = METHODS["uniform"](problem)
    except BudgetError:
        assume(False)
    for i, layer in enumerate(layers):
        kept = (layer.cell - levels.get(i, 0)) * layer.cells * layer.positions
        assert kept % align == 0 or kept == layer.width
        assert kept > 0
    order = events(problem)
    used = next(n for n in range(len(order) + 1) if levels_after(order[:n]) == levels)
    assert not problem.meets(levels_after(order[: used - 1]))


@pytest.mark.parametrize(
    ("layer", "align", "rungs"),
    [
        (Hidden(32), 8, (0, 8, 16, 24)),
        (Hidden(16, cells=4), 8, (0, 2, 4, 6, 8, 10, 12, 14)),
        (Hidden(16, fused=True), 8, (0, 4, 8, 12)),
        (Hidden(20), 8, (0, 4, 12)),  # 20 is no multiple, 16 and 8 are
        (Hidden(5), 8, (0,)),
        (Hidden(8), 8, (0,)),
        (Hidden(4), 1, (0, 1, 2, 3)),
    ],
)
def test_the_rungs(layer: Hidden, align: int, rungs: tuple[int, ...]) -> None:
    graph, groups = chain([layer])
    assert build_ladders(graph, groups, align).rungs == {0: rungs}


def test_what_cannot_be_aligned_is_left_and_named() -> None:
    graph, groups = chain([Hidden(5), Hidden(32)])
    ladders = build_ladders(graph, groups, 8)
    assert ladders.rungs == {0: (0,), 1: (0, 8, 16, 24)}
    assert len(ladders.left) == 1
    assert ladders.left[0].startswith("layer 0: no width below 5 is a multiple of 8")
    with pytest.raises(BudgetError, match="1 group has no aligned width"):
        METHODS["uniform"](pose(graph, groups, random_scores(groups), {"memory": 0.9}, align=8))
    assert build_ladders(graph, groups, 1).left == ()


def test_a_group_of_one_channel_is_not_blamed_on_the_alignment() -> None:
    graph, groups = chain([Hidden(1), Hidden(32)])
    assert build_ladders(graph, groups, 8).left == ()


def test_ties_that_share_an_axis_each_keep_its_remainder() -> None:
    graph, base = chain([Hidden(36)])  # 0.weight [36, 3]
    parts = []
    for i, (start, stop) in enumerate([(0, 16), (16, 36)]):
        size = stop - start
        index = base[0].slots[0].index[start:stop]
        slots = tuple(Slot(s.tensor, s.dim, index) for s in base[0].slots)
        cells = (tuple(range(size)),)
        parts.append(Group(i, f"part {i}", "", base[0].channels[start:stop], slots, cells, i))
    ladders = build_ladders(graph, Groups(tuple(parts), (), base.labels), 8)
    assert ladders.rungs == {0: (0, 8), 1: (0, 8, 16)}


@pytest.mark.parametrize("bad", [0, -8, 2.0, True, "8"])
@pytest.mark.parametrize("name", ["align", "min_keep"])
def test_an_align_or_min_keep_that_means_nothing(name: str, bad: object) -> None:
    graph, groups = chain([Hidden(5)])
    with pytest.raises(OptionError, match=f"{name} is {bad!r}, expected a whole number"):
        build_ladders(graph, groups, **{name: bad})
