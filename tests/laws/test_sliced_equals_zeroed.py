"""Sliced equals zeroed: in float64, in eval and in train mode, at two batch sizes."""

from __future__ import annotations

import pytest
import torch

import psvit
from tests.laws.support import (
    TOLERANCE,
    choice,
    joint_choice,
    oracle,
    plan_of,
    prune_and_compare,
    ready,
    run,
    swapped,
)
from tests.zoo import ZOO
from tests.zoo.wake import distance


@pytest.mark.parametrize("name", ZOO)
def test_every_group_alone(name: str) -> None:
    it = ready(name)
    wrong = {}
    done = set()
    for group in it.groups.prunable:
        if group.tie in done:
            continue
        done.add(group.tie)
        error = prune_and_compare(it, choice(it.groups, [group], 0.25))
        if not error <= TOLERANCE:
            wrong[group.name] = error
    assert not wrong


@pytest.mark.parametrize("name", ZOO)
def test_all_groups_together(name: str) -> None:
    it = ready(name)
    error = prune_and_compare(it, joint_choice(it))
    assert error <= TOLERANCE


@pytest.mark.parametrize("name", [n for n, case in ZOO.items() if case.heads])
def test_every_head_alone(name: str) -> None:
    it = ready(name)
    assert len(it.groups.heads) >= it.case.heads
    wrong = {}
    for head in it.groups.heads:
        error = prune_and_compare(it, {g: list(index) for g, index in head.channels.items()})
        if not error <= TOLERANCE:
            wrong[head.name] = error
    assert not wrong


@pytest.mark.parametrize("name", ZOO)
def test_the_reference_is_not_the_unpruned_model(name: str) -> None:
    it = ready(name)
    inputs = it.case.inputs(5)
    gap = distance(run(it.model, inputs), run(oracle(it, joint_choice(it)), inputs))
    assert gap > 1e-6


@pytest.mark.parametrize("name", ZOO)
def test_a_swapped_channel_is_noticed(name: str) -> None:
    # A channel may really make no difference (silent, or saturated), so most tries have to tell.
    it = ready(name)
    inputs = it.case.inputs(5)
    noticed = []
    spread = it.groups.prunable[:: 1 + len(it.groups.prunable) // 12]
    for seed, group in enumerate(spread):
        removal = choice(it.groups, [group], 0.25, seed)
        small = psvit.rewrite(it.graph, plan_of(it, removal))
        other = oracle(it, swapped(it.groups, removal, seed))
        noticed.append(not distance(run(small, inputs), run(other, inputs)) <= TOLERANCE)
    assert sum(noticed) >= 0.6 * len(noticed)


@pytest.mark.parametrize("name", ["spikformer_t4", "rep_conv", "grouped", "sj_qkformer_token_t1"])
def test_kept_weights_get_the_gradients_of_the_reference(name: str) -> None:
    it = ready(name)
    removal = joint_choice(it)
    plan = plan_of(it, removal)
    grads = []
    for model in (psvit.rewrite(it.graph, plan), oracle(it, removal)):
        model.train()
        torch.manual_seed(1)
        model(*it.case.inputs(5)).square().sum().backward()
        grads.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    small, reference = grads
    assert small.keys() == reference.keys()
    for tensor, gradient in reference.items():
        cut = plan.keep.get(tensor, {})
        if "in" in cut:
            continue
        for dim, kept in cut.items():
            gradient = gradient.index_select(int(dim), torch.tensor(kept))
        assert gradient.shape == small[tensor].shape, tensor
        assert (gradient - small[tensor]).abs().max() <= TOLERANCE * (1 + gradient.abs().max())
