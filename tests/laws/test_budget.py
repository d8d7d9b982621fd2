"""A budget is met, and overshot by at most one channel step, on real models."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import psvit
from psvit.cost import prepare
from psvit.records import Figures, Groups, Plan
from tests.laws.support import Choice, Ready, ready
from tests.zoo.case import float64

MODELS = ("rep_conv", "spikformer_t1", "sj_spikformer_t1")


def removal_of(groups: Groups, plan: Plan) -> Choice:
    """The channels that a plan removes, read back from its kept indices."""
    gone: Choice = {}
    for group in groups.prunable:
        slot = next(s for s in group.slots if s.dim != "in")
        kept = plan.keep.get(slot.tensor, {}).get(str(slot.dim))
        if kept is not None:
            left = set(kept)
            gone[group.id] = [i for i, row in enumerate(slot.index.tolist()) if not left & set(row)]
    return gone


def saved(before: Figures, after: Figures, unit: str) -> float:
    """The fraction of a unit that is saved."""
    name = {"memory": "memory_bytes"}.get(unit, unit)
    return 1 - getattr(after, name) / getattr(before, name)


def largest_step(it: Ready, removal: Choice, unit: str) -> float:
    """The most that giving one channel a cell back to one tie would cost."""
    meter = prepare(it.graph, it.groups)
    dense, now = meter.measure({}), meter.measure(removal)
    worst = 0.0
    for tie in {it.groups[g].tie for g, index in removal.items() if index}:
        less = dict(removal)
        for group in it.groups.prunable:
            if group.tie == tie:
                gone = set(removal.get(group.id, ()))
                back = {next(i for i in cell if i in gone) for cell in group.cells}
                less[group.id] = sorted(gone - back)
        step = saved(dense, now, unit) - saved(dense, meter.measure(less), unit)
        worst = max(worst, step)
    return worst


@pytest.mark.parametrize("name", MODELS)
@given(
    fraction=st.floats(0.02, 0.6),
    unit=st.sampled_from(["params", "memory", "macs"]),
    method=st.sampled_from(["l1", "random"]),
)
@settings(max_examples=12, deadline=None)
def test_a_budget_is_met_and_overshot_by_at_most_one_step(
    name: str, fraction: float, unit: str, method: str
) -> None:
    with float64():
        it = ready(name)
        scores = psvit.saliency(it.graph, it.groups, method)
        plan = psvit.allocate(it.graph, it.groups, scores, save={unit: fraction})
        removal = removal_of(it.groups, plan)
        meter = prepare(it.graph, it.groups)
        got = saved(meter.measure({}), meter.measure(removal), unit)
        assert got >= fraction
        assert got - fraction <= largest_step(it, removal, unit) + 1e-12


@pytest.mark.parametrize("name", MODELS)
def test_the_budget_holds_for_the_real_model(name: str) -> None:
    it = ready(name)
    result = psvit.prune(it.model, it.case.inputs(2), save={"params": 0.224})
    dense = sum(p.numel() for p in it.model.parameters())
    small = sum(p.numel() for p in result.model.parameters())
    assert 1 - small / dense >= 0.224
    assert result.before.params == dense
    assert result.after.params == small


@pytest.mark.parametrize("name", MODELS)
def test_a_larger_budget_removes_more(name: str) -> None:
    it = ready(name)
    scores = psvit.saliency(it.graph, it.groups, "l2")
    meter = prepare(it.graph, it.groups)
    params = []
    for fraction in torch.linspace(0.05, 0.6, 8).tolist():
        plan = psvit.allocate(it.graph, it.groups, scores, save={"params": fraction})
        params.append(meter.measure(removal_of(it.groups, plan)).params)
    assert params == sorted(params, reverse=True)
