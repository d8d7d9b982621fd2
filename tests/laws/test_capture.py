"""What a recording keeps open: the number of steps, or it says so; and models never called."""

from __future__ import annotations

import pytest
import torch

import psvit
from psvit.groups import make_plan
from psvit.rewrite import zeroed
from tests.laws.support import TOLERANCE, choice, error, joint_choice, oracle, plan_of, ready, run
from tests.zoo import ZOO
from tests.zoo.wake import distance

STEPPED = [name for name in ZOO if name.endswith("_t4") and not name.startswith("sj_max")]


@pytest.mark.parametrize("name", STEPPED)
def test_the_number_of_steps_stays_open_or_is_said_to_be_fixed(name: str) -> None:
    it = ready(name)
    removal = joint_choice(it)
    small, reference = psvit.rewrite(it.graph, plan_of(it, removal)), oracle(it, removal)
    for module in (*small.modules(), *reference.modules()):
        if isinstance(getattr(module, "T", None), int):
            module.T = 2
    inputs = it.case.inputs(2)
    expected = run(reference, inputs)
    try:
        gap = distance(run(small, inputs), expected)
    except (RuntimeError, IndexError, ValueError):
        gap = float("inf")
    assert gap <= TOLERANCE or it.graph.fixed


@pytest.mark.parametrize(
    "name", ["late_parameters", "first_call", "two_forwards", "plain_mlp", "sj_spikformer_t1"]
)
def test_a_model_that_was_never_called_can_be_pruned(name: str) -> None:
    case = ZOO[name]
    model = case.build()
    graph = psvit.capture(model, case.inputs(2))
    groups = psvit.find_groups(graph)
    plan = make_plan(graph, groups, choice(groups, groups.prunable, 0.25))
    assert plan.keep
    assert error(psvit.rewrite(graph, plan), zeroed(graph, plan), case) <= TOLERANCE


def test_recording_takes_no_part_in_autograd() -> None:
    it = ready("spikformer_t1")
    assert torch.is_grad_enabled()
    small = psvit.rewrite(it.graph, plan_of(it, joint_choice(it)))
    assert all(p.is_leaf and p.requires_grad for p in small.parameters())
    assert all(p.grad is None for p in small.parameters())
