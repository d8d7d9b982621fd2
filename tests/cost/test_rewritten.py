"""The law of cost: pricing a removal gives the figures of the model that is really rewritten.

Those are counted without psvit: tensors by their sizes, MACs as half of the FLOPs that torch
counts while the model runs.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from psvit.allocate import build_ladders, choose
from psvit.capture import capture
from psvit.cost import measure
from psvit.groups import find_groups, make_plan
from psvit.records import Figures, Graph, Groups, Labels, Removal
from psvit.rewrite import rewrite
from psvit.saliency import saliency
from tests.zoo import PUBLISHED, ZOO
from tests.zoo.case import Case, float64

# T steps multiply the MACs of every model alike: one of SpikingJelly's with T = 4 is enough
NAMES = [n for n in ZOO if n not in PUBLISHED or n.endswith("_t1") or n == "sj_spikformer_t4"]


def counted(model: nn.Module, case: Case, batch: int = 3) -> Figures:
    """The figures of a model as it is, without its labels."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(*case.inputs(batch))
    macs, rest = divmod(counter.get_total_flops(), 2 * batch)
    assert rest == 0
    parameters = list(model.parameters())
    return Figures(
        memory_bytes=sum(t.nbytes for t in [*parameters, *model.buffers()]),
        params=sum(p.numel() for p in parameters),
        macs=macs,
    )


def recorded_anew(model: nn.Module, case: Case) -> Figures:
    """For attention kernels, in which torch counts nothing on the CPU: psvit, without labels."""
    no_groups = Groups((), (), Labels({"eval": {}}, np.zeros(0, dtype=np.int64), {}, {}))
    return measure(capture(model, case.inputs(2), check=False), no_groups, {})


def removals(graph: Graph, groups: Groups) -> list[Removal]:
    """Nothing; a quarter, a single channel or nothing of each tie; a whole head."""
    ladders = build_ladders(graph, groups)
    levels = {
        tie: (cell // 4 or 1, 1, 0)[i % 3] for i, (tie, cell) in enumerate(ladders.cell.items())
    }
    uneven = choose(groups, saliency(graph, groups, "random"), levels)
    return [{}, uneven, *(head.channels for head in groups.heads[:1])]


@pytest.mark.parametrize("name", NAMES)
def test_measured_equals_rewritten(name: str) -> None:
    case = ZOO[name]
    count = recorded_anew if "sdpa" in name else counted
    with float64():
        torch.manual_seed(0)
        graph = capture(case.build().double(), case.inputs(2), check=False)
        groups = find_groups(graph)
        seen = set()
        for removal in removals(graph, groups):
            small = rewrite(graph, make_plan(graph, groups, removal))
            figures = measure(graph, groups, removal)
            assert figures == count(small, case)
            seen.add(figures)
    assert len(seen) == 1 + any(removals(graph, groups)[1].values()) + bool(groups.heads)
