"""Compensation on every pattern of the zoo: the cut model is the compensated one, cut, exactly."""

from __future__ import annotations

import pytest
import torch

import psvit
from psvit.allocate import choose
from psvit.calibrate import calibrate
from psvit.groups import make_plan
from psvit.recover import cut
from psvit.rewrite import zeroed
from psvit.saliency import obs_scores
from tests.laws.support import TOLERANCE
from tests.zoo import ZOO
from tests.zoo.case import float64
from tests.zoo.wake import distance, outputs, wake

EVERYDAY = ("fused_chunk", "einops_attention")
NAMES = [pytest.param(name, marks=[] if name in EVERYDAY else pytest.mark.thorough) for name in ZOO]


@pytest.mark.parametrize("name", NAMES)
def test_the_cut_model_is_the_compensated_model_cut(name: str) -> None:
    with float64(), torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        inputs = ZOO[name].inputs(2)
        graph = psvit.capture(wake(ZOO[name].build(), inputs), inputs)
        groups = psvit.find_groups(graph)
        dense = calibrate(graph, groups, [inputs])
        scores = obs_scores(dense)
        able = {group.id for group in groups.prunable}
        whole = {g.tie for g in groups} - {g.tie for g in groups if g.id not in able}
        removal = choose(groups, scores, dict.fromkeys(whole, 1))
        plan = make_plan(graph, groups, removal)
        values = dense.values(removal)
        small = cut(graph, groups, removal, dense)
        module = graph.module
        tensors = dict(module.named_parameters()) | dict(module.named_buffers())
        for tensor, value in values.items():
            tensors[tensor].copy_(value)
        assert distance(outputs(small, inputs), outputs(zeroed(graph, plan), inputs)) < TOLERANCE
