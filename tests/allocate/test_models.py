"""Budgets on SpikingJelly's models, judged on the rewritten model by counting its tensors."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from psvit.allocate import METHODS, allocate, pose
from psvit.allocate.events import levels_after
from psvit.allocate.uniform import events
from psvit.capture import capture
from psvit.errors import BudgetError
from psvit.groups import find_groups
from psvit.records import Graph, Groups
from psvit.rewrite import rewrite
from psvit.saliency import saliency
from tests.zoo import PUBLISHED

MODELS = [name for name in PUBLISHED if name.endswith("_t1")]


def prepared(name: str) -> tuple[nn.Module, torch.Tensor, Graph, Groups]:
    torch.manual_seed(0)
    model = PUBLISHED[name].build().eval()
    (example,) = PUBLISHED[name].inputs(2)
    example = example.float()
    graph = capture(model, example, check=False)
    return model, example, graph, find_groups(graph)


def size(model: nn.Module) -> int:
    return sum(t.nbytes for t in [*model.parameters(), *model.buffers()])


def params(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_the_rewritten_model_meets_the_budget_and_runs(name: str) -> None:
    model, example, graph, groups = prepared(name)
    scores = saliency(graph, groups)
    small = rewrite(graph, allocate(graph, groups, scores, {"memory": 0.224}))
    saved = 1 - size(small) / size(model)
    # a step of these small models is at most 6 % of them
    assert 0.224 <= saved <= 0.29
    assert small(example).shape == model(example).shape


@pytest.mark.parametrize("name", MODELS)
def test_one_step_less_misses_the_budget(name: str) -> None:
    _, _, graph, groups = prepared(name)
    goals = {"params": 0.3, "macs": 0.3}
    problem = pose(graph, groups, saliency(graph, groups), goals)
    levels, order = METHODS["uniform"](problem), events(problem)
    used = next(n for n in range(len(order) + 1) if levels_after(order[:n]) == levels)
    assert problem.meets(levels)
    assert not problem.meets(levels_after(order[: used - 1]))


@pytest.mark.parametrize("name", MODELS)
def test_aligned_axes_stay_multiples_of_eight(name: str) -> None:
    model, example, graph, groups = prepared(name)
    problem = pose(graph, groups, saliency(graph, groups), {"params": 0.2}, align=8)
    reachable = problem.saved({t: rungs[-1] for t, rungs in problem.ladders.rungs.items()})
    goal = {"params": min(0.2, reachable["params"])}
    if not goal["params"]:
        with pytest.raises(BudgetError, match="no aligned width"):
            allocate(graph, groups, saliency(graph, groups), {"params": 0.2}, align=8)
        return
    small = rewrite(graph, allocate(graph, groups, saliency(graph, groups), goal, align=8))
    assert params(small) <= (1 - goal["params"]) * params(model)
    assert small(example).shape == model(example).shape
    new = dict(small.named_parameters())
    changed = 0
    for key, old in model.named_parameters():
        for before, after in zip(old.shape, new[key].shape, strict=True):
            if before % 8 == 0:
                assert after % 8 == 0, key
            changed += before != after
    assert changed > 0
