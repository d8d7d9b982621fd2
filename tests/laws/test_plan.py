"""Empty plan, JSON, rewriting twice, figures, and a model that stays as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import psvit
from psvit.artefacts.compose import compose
from psvit.cost import measure
from psvit.records import Plan
from psvit.rewrite import zeroed
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

LAST_BITS = 1e-14
"""Not 0: BLAS may add up in another order where weights lie at other addresses."""


def own_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The state dict without ``constant_<n>``, the tensors that the original held outside of it."""
    state = model.state_dict().items()
    return {key: tensor for key, tensor in state if not key.startswith("constant_")}


@pytest.mark.parametrize("name", ZOO)
def test_the_empty_plan_is_the_identity(name: str) -> None:
    it = ready(name)
    plan = plan_of(it, {})
    assert not plan.keep
    same = psvit.rewrite(it.graph, plan)
    before, after = it.model.state_dict(), own_state(same)
    assert list(before) == list(after)
    assert all(torch.equal(before[key], after[key]) for key in before)
    twin = zeroed(it.graph, plan)
    assert error(same, twin, it.case) < LAST_BITS
    for batch in BATCHES:
        inputs = it.case.inputs(batch)
        assert (
            distance(run(it.model, inputs), run(psvit.rewrite(it.graph, plan), inputs)) < LAST_BITS
        )


@pytest.mark.parametrize("name", ZOO)
def test_the_identity_survives_an_update_of_the_weights(name: str) -> None:
    # What was recorded must be the parameter, not its value: views and .data included.
    case = ZOO[name]
    torch.manual_seed(3)
    model = wake(case.build(), case.inputs(BATCHES[0]))
    graph = psvit.capture(model, case.inputs(BATCHES[0]))
    same = psvit.rewrite(graph, psvit.groups.make_plan(graph, psvit.find_groups(graph), {}))
    inputs = case.inputs(BATCHES[1])
    before = run(model, inputs)
    for trained in (model, same):
        torch.manual_seed(4)
        with torch.no_grad():
            for parameter in trained.parameters():
                parameter.mul_(1.2).add_(0.1 * torch.rand_like(parameter))
    after = run(model, inputs)
    assert distance(before, after) > 1e-6
    assert distance(after, run(same, inputs)) < LAST_BITS


@pytest.mark.parametrize("name", ZOO)
def test_a_plan_goes_through_json_unchanged(name: str) -> None:
    it = ready(name)
    plan = plan_of(it, joint_choice(it))
    again = Plan.from_json(plan.to_json())
    assert again == plan
    inputs = it.case.inputs(BATCHES[0])
    first, second = psvit.rewrite(it.graph, plan), psvit.rewrite(it.graph, again)
    assert distance(run(first, inputs), run(second, inputs)) < LAST_BITS


@pytest.mark.parametrize("name", ZOO)
def test_the_rewritten_model_has_the_shapes_of_the_plan_and_the_figures_foretold(name: str) -> None:
    it = ready(name)
    removal = joint_choice(it)
    plan = plan_of(it, removal)
    small = psvit.rewrite(it.graph, plan)
    before, after = it.model.state_dict(), own_state(small)
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


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # dynamo's own
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", ZOO)
def test_the_input_model_is_left_as_it_was(name: str, training: bool) -> None:
    model = _in_use(name, training)
    reset(model)
    with torch.no_grad():
        model(*ZOO[name].inputs(2))  # neurons hold states
    _check_untouched(name, model)


@pytest.mark.parametrize(
    "name", ["fused_chunk", "spikformer_t4", "user_step_lif", "sj_qkformer_token_t1"]
)
def test_neuron_states_that_carry_a_graph_are_left_as_they_were(name: str) -> None:
    _check_untouched(name, _in_use(name, training=True))


def _in_use(name: str, training: bool) -> nn.Module:
    """A model after one backward pass: it has gradients, and its neurons have not been reset."""
    case = ZOO[name]
    torch.manual_seed(3)
    model = wake(case.build(), case.inputs(2))
    model.train(training)
    leaves = [o for o in _floats(model(*case.inputs(2))) if o.requires_grad]
    sum((o.square().sum() for o in leaves), torch.zeros(())).backward()
    return model


def _check_untouched(name: str, model: nn.Module) -> None:
    inputs = ZOO[name].inputs(2)
    before = Photograph(model)
    graph = psvit.capture(model, inputs)
    groups = psvit.find_groups(graph)
    plan = psvit.groups.make_plan(graph, groups, choice(groups, groups.prunable, 0.25))
    small, reference = psvit.rewrite(graph, plan), zeroed(graph, plan)
    assert before.differences(Photograph(model)) == []
    run(small, inputs, training=True)
    run(reference, inputs, training=True)
    after = Photograph(model)
    after.random = before.random  # the two runs above draw numbers, and set their seed
    assert before.differences(after) == []


def _floats(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    items = value.values() if isinstance(value, dict) else value
    return [t for item in items for t in _floats(item)]
