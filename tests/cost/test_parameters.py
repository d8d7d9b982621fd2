"""Bytes and parameters: closed forms, shared storages, and any removal against slicing by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import fx, nn

from psvit.cost import measure
from psvit.errors import PlanError
from psvit.records import Graph, Group, Groups, InputSpec, Labels, Slot
from tests.allocate.synthetic import Hidden, chain, chain_figures

EMPTY = Groups((), (), Labels({"eval": {}}, np.zeros(0, dtype=np.int64), {}, {}))


def still(module: nn.Module) -> Graph:
    """A graph that computes nothing: only its parameters and buffers count."""
    return Graph(module, {"eval": fx.Graph()}, (InputSpec((1, 1)),))


def test_a_chain_has_the_hand_computed_figures() -> None:
    graph, groups = chain([Hidden(4)], inputs=3, classes=5)
    figures = measure(graph, groups, {})
    assert figures.params == (3 * 4 + 4) + (4 * 5 + 5)
    assert figures.memory_bytes == 4 * figures.params
    assert figures.macs == 3 * 4 + 4 * 5
    figures = measure(graph, groups, {0: [1]})
    assert (figures.params, figures.macs) == ((3 * 3 + 3) + (3 * 5 + 5), 3 * 3 + 3 * 5)


def test_buffers_are_memory_but_not_parameters() -> None:
    figures = measure(still(nn.BatchNorm1d(6)), EMPTY, {})
    assert figures.params == 12
    # weight, bias, mean, variance in float32; num_batches_tracked in int64
    assert figures.memory_bytes == 4 * 6 * 4 + 8


def test_bytes_follow_the_dtype() -> None:
    assert measure(still(nn.Linear(3, 5).half()), EMPTY, {}).memory_bytes == 2 * (15 + 5)


def test_a_shared_layer_counts_once_under_either_name() -> None:
    module = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU())
    module.append(module[0])
    for name in ("0.weight", "2.weight"):
        group = _group([Slot(name, 0, np.arange(4)[:, None])])
        figures = measure(still(module), Groups((group,), (), EMPTY.labels), {0: [3]})
        assert figures.params == 3 * 4


def test_a_view_kept_as_a_buffer_takes_no_memory_of_its_own() -> None:
    module = nn.Linear(4, 4, bias=False)
    module.register_buffer("view", module.weight.detach()[:2])
    assert measure(still(module), EMPTY, {}).memory_bytes == 4 * 16


def test_a_grouped_convolution_keeps_inputs_group_by_group() -> None:
    module = nn.Conv2d(8, 4, 3, groups=2, bias=False)  # weight [4, 4, 3, 3]
    group = _group([Slot("weight", "in", np.arange(8)[:, None])])
    groups = Groups((group,), (), EMPTY.labels)
    assert measure(still(module), groups, {0: [0, 5]}).params == 4 * 3 * 9
    assert measure(still(module), groups, {0: [0, 1, 4, 7]}).params == 4 * 2 * 9


def _group(slots: list[Slot]) -> Group:
    size = len(slots[0].index)
    return Group(0, "g", "hidden", np.arange(size), tuple(slots), (tuple(range(size)),), 0)


@pytest.mark.parametrize(
    ("removal", "message"),
    [
        ({7: [0]}, "names group 7"),
        ({0: [4]}, r"channels 4..4 of group layer 0, which has channels 0..3"),
        ({0: [-1]}, r"channels -1..-1"),
    ],
)
def test_a_removal_of_what_is_not_there_is_refused(removal: dict, message: str) -> None:
    graph, groups = chain([Hidden(4)])
    with pytest.raises(PlanError, match=message):
        measure(graph, groups, removal)


hidden = st.builds(Hidden, st.integers(1, 5), st.integers(1, 3), st.booleans())


@settings(max_examples=60, deadline=None)
@given(st.lists(hidden, min_size=1, max_size=4), st.data())
def test_any_removal_costs_what_slicing_by_hand_leaves(
    layers: list[Hidden], data: st.DataObject
) -> None:
    graph, groups = chain(layers)
    removal = {
        g.id: data.draw(st.lists(st.integers(0, g.size - 1), unique=True, max_size=g.size - 1))
        for g in groups
        if g.size > 1
    }
    assert measure(graph, groups, removal) == chain_figures(graph, groups, removal)


def test_a_module_on_meta_is_measured_alike() -> None:
    with torch.device("meta"):
        assert measure(still(nn.Linear(3, 5)), EMPTY, {}).params == 20
