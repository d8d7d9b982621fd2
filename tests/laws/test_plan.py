"""Empty plan, JSON, rewriting twice, figures, and a model that stays as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import psvit
import pytest
import torch
from psvit.artefacts.compose import compose
from psvit.cost import measure
from psvit.records import Plan
from psvit.rewrite import zeroed
from torch import Tensor, nn

from tests.laws.support import (
    BATCHES,
    TOLERANCE,
    choice,
    error,
    joint_choice,
    plan_of,
    ready,
    run,
)
from tests.zoo import PUBLISHED, ZOO
from tests.zoo.wake import distance, reset, wake

TWICE = [
    "fused_chunk",
    "spikformer_t4",
    "rep_conv",
    "dense_net",
    "depthwise_multiplier",
    "shared_conv",
    "temporal_shift_t4",
    "user_lif_t4",
    "group_norm",
    "sdpa",
    "multi_query",
    "functional_convolutions",
    "einops_attention",
    "literals",
    *PUBLISHED,
]


@pytest.mark.parametrize("name", ZOO)
def test_the_empty_plan_is_the_identity(name: str) -> None:
    it = ready(name)
    plan = plan_of(it, {})
    assert not plan.keep
    same = psvit.rewrite(it.graph, plan)
    before, after = it.model.state_dict(), same.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[key], after[key]) for key in before)
    twin = zeroed(it.graph, plan)
    assert error(same, twin, it.case) == 0.0
    for batch in BATCHES:
        inputs = it.case.inputs(batch)
        assert distance(run(it.model, inputs), run(psvit.rewrite(it.graph, plan), inputs)) == 0.0


@pytest.mark.parametrize("name", ZOO)
def test_a_plan_goes_through_json_unchanged(name: str) -> None:
    it = ready(name)
    plan = plan_of(it, joint_choice(it))
    again = Plan.from_json(plan.to_json())
    assert again == plan
    inputs = it.case.inputs(BATCHES[0])
    first, second = psvit.rewrite(it.graph, plan), psvit.rewrite(it.graph, again)
    assert distance(run(first, inputs), run(second, inputs)) == 0.0


@pytest.mark.parametrize("name", ZOO)
def test_the_rewritten_model_has_the_shapes_of_the_plan_and_the_figures_foretold(name: str) -> None:
    it = ready(name)
    removal = joint_choice(it)
    plan = plan_of(it, removal)
    small = psvit.rewrite(it.graph, plan)
    before, after = it.model.state_dict(), small.state_dict()
    assert list(before) == list(after)
    for key, tensor in after.items():
        cut = plan.keep.get(key, {})
        for dim in range(tensor.ndim):
            if not (dim == 1 and "in" in cut):
                kept = cut.get(str(dim), range(before[key].shape[dim]))
                assert tensor.shape[dim] == len(kept), (key, dim)
    foretold = measure(it.graph, it.groups, removal)
    assert foretold.params == sum(p.numel() for p in small.parameters())
    tensors = [*small.parameters(), *small.buffers()]
    assert foretold.memory_bytes == sum(t.numel() * t.element_size() for t in tensors)


@pytest.mark.parametrize("name", TWICE)
def test_rewriting_twice_is_rewriting_once_composed(name: str) -> None:
    it = ready(name)
    first = plan_of(it, choice(it.groups, it.groups.prunable, 0.15, 1))
    middle = psvit.rewrite(it.graph, first)
    graph = psvit.capture(middle, it.case.inputs(BATCHES[0]))
    groups = psvit.find_groups(graph)
    assert {g.name for g in it.groups.prunable if g.size > 4} >= {
        g.name for g in groups.prunable if g.size > 4
    }
    second = psvit.groups.make_plan(graph, groups, choice(groups, groups.prunable, 0.15, 2))
    twice = psvit.rewrite(graph, second)
    once = psvit.rewrite(it.graph, compose(first, second))
    assert all(
        torch.equal(a, b)
        for a, b in zip(once.state_dict().values(), twice.state_dict().values(), strict=True)
    )
    assert error(once, twice, it.case) <= TOLERANCE


class Photograph:
    """Everything about a model that a user could find changed."""

    def __init__(self, model: nn.Module) -> None:
        self.tensors = {k: (id(t), t.detach().clone()) for k, t in _tensors(model)}
        self.plain = {
            name: {k: v for k, v in vars(m).items() if isinstance(v, (bool, int, float, str))}
            for name, m in model.named_modules()
        }
        self.keys = {name: sorted(vars(m)) for name, m in model.named_modules()}
        self.states = {
            name: {k: _frozen(v) for k, v in getattr(m, "_memories", {}).items()}
            for name, m in model.named_modules()
        }
        self.hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
        self.forwards = {name: type(m).forward for name, m in model.named_modules()}
        self.random = (torch.random.get_rng_state().tolist(), repr(np.random.get_state()))
        self.dtype = torch.get_default_dtype()
        self.grad = torch.is_grad_enabled()

    def differences(self, later: Photograph) -> list[str]:
        """Names of what differs."""
        found = [
            name
            for name in ("plain", "keys", "hooks", "forwards", "random", "dtype", "grad", "states")
            if getattr(self, name) != getattr(later, name)
        ]
        if self.tensors.keys() != later.tensors.keys():
            return [*found, "names of tensors"]
        for key, (identity, tensor) in self.tensors.items():
            other, value = later.tensors[key]
            if identity != other or not torch.equal(tensor, value):
                found.append(key)
        return found


def _tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    grads = [(f"{k}.grad", p.grad) for k, p in model.named_parameters() if p.grad is not None]
    return [*model.named_parameters(), *model.named_buffers(), *grads]


def _frozen(value: Any) -> Any:
    return (tuple(value.shape), value.tolist()) if isinstance(value, Tensor) else value


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", ZOO)
def test_the_input_model_is_left_as_it_was(name: str, training: bool) -> None:
    case = ZOO[name]
    torch.manual_seed(3)
    model = wake(case.build(), case.inputs(2))
    model.train(training)
    # In the middle of training: gradients are there, neurons hold states that carry a graph.
    leaves = [o for o in _floats(model(*case.inputs(2))) if o.requires_grad]
    sum((o.square().sum() for o in leaves), torch.zeros(())).backward()
    before = Photograph(model)
    graph = psvit.capture(model, case.inputs(2))
    groups = psvit.find_groups(graph)
    plan = psvit.groups.make_plan(graph, groups, choice(groups, groups.prunable, 0.25))
    small, reference = psvit.rewrite(graph, plan), zeroed(graph, plan)
    assert before.differences(Photograph(model)) == []
    run(small, case.inputs(2), training=True)
    run(reference, case.inputs(2), training=True)
    after = Photograph(model)
    after.random = before.random  # the two runs above draw numbers, and set their seed
    assert before.differences(after) == []
    reset(model)


def _floats(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    items = value.values() if isinstance(value, dict) else value
    return [t for item in items for t in _floats(item)]
