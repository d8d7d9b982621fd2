"""Groups partition every labelled axis; what must be prunable is; what must be locked says why."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
import torch
from torch import nn

import psvit
from psvit.records import Dim, Group
from tests.laws.support import ready
from tests.zoo import ZOO


def axes(groups: list[Group]) -> dict[tuple[str, Dim], list[int]]:
    """Every axis of every slot, with all the positions that channels take on it."""
    found: dict[tuple[str, Dim], list[int]] = defaultdict(list)
    for group in groups:
        for slot in group.slots:
            found[slot.tensor, slot.dim] += slot.index.ravel().tolist()
    return found


def length(module: object, tensor: str, dim: Dim) -> int:
    """Number of positions on an axis; "in" counts the inputs of the whole layer."""
    owner, _, name = tensor.rpartition(".")
    layer = module.get_submodule(owner)  # type: ignore[attr-defined]
    return layer.in_channels if dim == "in" else getattr(layer, name).shape[dim]


@pytest.mark.parametrize("name", ZOO)
def test_groups_partition_every_labelled_axis(name: str) -> None:
    it = ready(name)
    for (tensor, dim), positions in axes(list(it.groups)).items():
        assert sorted(positions) == list(range(length(it.graph.module, tensor, dim))), (tensor, dim)
    channels = np.concatenate([g.channels for g in it.groups])
    assert len(set(channels.tolist())) == len(channels)


@pytest.mark.parametrize("name", ZOO)
def test_cells_partition_every_group_evenly(name: str) -> None:
    for group in ready(name).groups:
        assert sorted(i for cell in group.cells for i in cell) == list(range(group.size))
        assert group.locked is not None or len({len(cell) for cell in group.cells}) == 1
        assert all(slot.index.shape[0] == group.size for slot in group.slots)


@pytest.mark.parametrize("name", ZOO)
def test_what_must_be_prunable_is(name: str) -> None:
    it = ready(name)
    free = axes(list(it.groups.prunable))
    reasons = {
        f"{slot.tensor}:{slot.dim}": group.locked for group in it.groups for slot in group.slots
    }
    short = {}
    for axis in it.case.prunable:
        tensor, _, number = axis.rpartition(":")
        dim: Dim = "in" if number == "1" and (tensor, "in") in free else int(number)
        wanted = length(it.graph.module, tensor, dim)
        got = len(set(free.get((tensor, dim), ())))
        if got != wanted:
            short[axis] = f"{got} of {wanted}: {reasons.get(axis, 'in no group')}"
    assert not short


@pytest.mark.parametrize("name", [n for n, case in ZOO.items() if case.locked])
def test_what_must_be_locked_is_and_says_why(name: str) -> None:
    it = ready(name)
    for axis in it.case.locked:
        tensor, _, dim = axis.rpartition(":")
        holders = [
            g for g in it.groups if any(s.tensor == tensor and str(s.dim) == dim for s in g.slots)
        ]
        assert holders, f"{axis} is in no group"
        assert all(g.locked and g.locked.strip() for g in holders), f"{axis} is not locked"


@pytest.mark.parametrize("name", ZOO)
def test_every_lock_has_a_reason_a_person_can_read(name: str) -> None:
    for group in ready(name).groups:
        if group.locked is not None:
            assert len(group.locked.split()) >= 3, (group.name, group.locked)
            assert "\n" not in group.locked


@pytest.mark.parametrize("name", [n for n, case in ZOO.items() if case.unknown])
def test_an_unknown_operation_is_reported(name: str) -> None:
    it = ready(name)
    for operation in it.case.unknown:
        assert any(operation in line for line in it.groups.unknown), it.groups.unknown


class Bounded(nn.Module):
    """q @ k of spikes above a threshold that the forward keeps within bounds, in place."""

    def __init__(self, highest: float | None) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(8, 12), nn.Linear(8, 12)
        self.register_buffer("threshold", torch.tensor(0.2))
        self.highest = highest

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.highest is not None:
            self.threshold.view(1).clamp_(max=self.highest)
        q, k = ((fc(x) - self.threshold > 0).to(x.dtype) for fc in (self.q, self.k))
        return q @ k.mT


@pytest.mark.parametrize(("highest", "prunable"), [(None, True), (-0.1, False)])
def test_a_value_that_the_forward_writes_is_not_known(
    highest: float | None, prunable: bool
) -> None:
    graph = psvit.capture(Bounded(highest), torch.rand(2, 5, 8))
    assert bool(psvit.find_groups(graph).prunable) == prunable
