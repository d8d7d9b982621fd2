"""What the laws share: models made ready once, removals, and how two models are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

import psvit
from psvit.cost import prepare as prepare_meter
from psvit.groups import make_plan
from psvit.records import Graph, Group, Groups, Plan
from psvit.rewrite import zeroed
from tests.zoo import ZOO, Case
from tests.zoo.case import float64
from tests.zoo.wake import distance, outputs, wake

BATCHES = (2, 5)
"""The batch size at which models are captured, and another one."""
TOLERANCE = 1e-9
SHARE = 0.224
"""Share of the parameters that is removed when all groups are pruned at once."""

Choice = dict[int, list[int]]


@dataclass(frozen=True)
class Ready:
    """A model of the zoo, awake, and what psvit finds in it."""

    name: str
    case: Case
    model: nn.Module
    graph: Graph
    groups: Groups


@cache
def awake(name: str) -> nn.Module:
    """A model of the zoo with live weights; not to be changed by a test."""
    case = ZOO[name]
    with float64(), torch.random.fork_rng():
        torch.manual_seed(0)
        return wake(case.build(), case.inputs(BATCHES[0]))


@cache
def ready(name: str) -> Ready:
    """The model, its graph and its groups."""
    model = awake(name)
    with float64():
        graph = psvit.capture(model, ZOO[name].inputs(BATCHES[0]))
        return Ready(name, ZOO[name], model, graph, psvit.find_groups(graph))


def choice(groups: Groups, chosen: Sequence[Group], share: float, seed: int = 0) -> Choice:
    """Channels of the chosen groups at random, the same number from every cell of a tie.

    Groups that are tied to a chosen one come along, as they must.
    """
    generator = np.random.default_rng(seed)
    ties = {group.tie for group in chosen}
    picked: Choice = {}
    for tie in sorted(ties):
        members = [g for g in groups.prunable if g.tie == tie]
        size = min(len(cell) for g in members for cell in g.cells)
        count = min(max(1, round(share * size)), size - 1)
        for group in members:
            picked[group.id] = sorted(
                int(i) for cell in group.cells for i in generator.permutation(cell)[:count]
            )
    return picked


def joint_choice(ready_: Ready) -> Choice:
    """All groups at once, at the ratio that comes nearest to SHARE of the parameters."""
    meter = prepare_meter(ready_.graph, ready_.groups)
    dense = meter.measure({}).params
    best: tuple[float, Choice] | None = None
    for share in (0.06, 0.09, 0.12, 0.15, 0.2, 0.25, 0.35, 0.5):
        candidate = choice(ready_.groups, ready_.groups.prunable, share)
        saved = 1 - meter.measure(candidate).params / dense
        if best is None or abs(saved - SHARE) < best[0]:
            best = (abs(saved - SHARE), candidate)
    assert best is not None
    return best[1]


def swapped(groups: Groups, removal: Choice, seed: int = 0) -> Choice:
    """The same removal, but in each cell one removed channel has changed places with a kept one."""
    generator = np.random.default_rng(seed)
    result: Choice = {}
    for group_id, removed in removal.items():
        gone = set(removed)
        for cell in groups[group_id].cells:
            inside = sorted(gone & set(cell))
            outside = sorted(set(cell) - gone)
            if inside and outside:
                gone.discard(int(generator.choice(inside)))
                gone.add(int(generator.choice(outside)))
        result[group_id] = sorted(gone)
    return result


def plan_of(ready_: Ready, removal: Choice) -> Plan:
    """The plan of a removal."""
    return make_plan(ready_.graph, ready_.groups, removal)


def oracle(ready_: Ready, removal: Choice) -> nn.Module:
    """The original model with every slice of every removed channel set to zero."""
    return zeroed(ready_.graph, plan_of(ready_, removal))


def run(model: nn.Module, inputs: tuple[Tensor, ...], *, training: bool = False) -> list[Tensor]:
    """Outputs from a fresh state and a fixed seed."""
    model.train(training)
    torch.manual_seed(1)
    with torch.no_grad():
        return outputs(model, inputs)


def error(a: nn.Module, b: nn.Module, case: Case) -> float:
    """The largest difference over eval and train mode and both batch sizes.

    Train mode comes last: it moves BN statistics, of both models alike.
    """
    worst = 0.0
    for training in (False, True):
        for batch in BATCHES:
            inputs = case.inputs(batch)
            gap = distance(run(a, inputs, training=training), run(b, inputs, training=training))
            if not gap <= worst:  # a NaN stays
                worst = gap
    a.eval()
    b.eval()
    return worst


def prune_and_compare(ready_: Ready, removal: Choice) -> float:
    """How far the rewritten model is from the zeroed one."""
    plan = plan_of(ready_, removal)
    return error(psvit.rewrite(ready_.graph, plan), zeroed(ready_.graph, plan), ready_.case)
