"""Closing a gate on every reader of a channel is removing it: so the readers are complete."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import torch

from psvit.groups import make_plan
from psvit.rewrite import zeroed
from psvit.saliency.reads import channel_table
from psvit.saliency.taylor import _Gated
from tests.laws.support import TOLERANCE, ready
from tests.zoo import ZOO
from tests.zoo.case import float64
from tests.zoo.wake import distance, outputs

NAMES = [
    name
    if zlib.crc32(name.encode()) % 16 == 0 and not name.startswith("sj_")
    else pytest.param(name, marks=pytest.mark.thorough)
    for name in ZOO
]
"""One model in sixteen each day."""


@pytest.mark.parametrize("name", NAMES)
def test_a_gate_of_0_on_every_reader_is_removal(name: str) -> None:
    it = ready(name)
    table, inputs = channel_table(it.groups), it.case.inputs(2)
    places = np.cumsum([0, *(g.size for g in it.groups)])
    with float64(), torch.no_grad():
        for group in it.groups.prunable:
            tied = [g for g in it.groups if g.tie == group.tie]
            removal = {g.id: [cell[0] for cell in g.cells] for g in tied}
            watch = _Gated(it.graph, table, torch.device("cpu"))
            for g, start in zip(it.groups, places, strict=False):
                watch._gates[[int(start) + c for c in removal.get(g.id, [])]] = 0
            torch.manual_seed(0)
            it.graph.module.eval()
            got = outputs(Closed(it.graph.module, watch), inputs)
            torch.manual_seed(0)
            plan = make_plan(it.graph, it.groups, removal)
            expected = outputs(zeroed(it.graph, plan), inputs)
            assert distance(got, expected) < TOLERANCE, group.name


class Closed(torch.nn.Module):
    """The recorded forward with its gates."""

    def __init__(self, root: torch.nn.Module, watch: _Gated) -> None:
        super().__init__()
        self.root, self.watch = root, watch

    def forward(self, *inputs: torch.Tensor) -> object:
        return self.watch.run(*inputs)
