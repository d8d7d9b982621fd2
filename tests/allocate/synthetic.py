"""Graphs and groups made by hand, whose figures are known without the engine.

A chain is a stack of linear layers; hidden layer i is one group. A *fused* hidden layer holds
each channel at two positions, c and c + C, as a fused projection does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import fx, nn

from psvit.records import Field, Figures, Graph, Group, Groups, InputSpec, Labels, Removal, Slot


@dataclass(frozen=True)
class Hidden:
    """A hidden layer: channels in a cell, number of cells, whether fused, and its tie."""

    cell: int
    cells: int = 1
    fused: bool = False
    tie: int | None = None
    locked: str | None = None

    @property
    def channels(self) -> int:
        return self.cell * self.cells

    @property
    def positions(self) -> int:
        return 2 if self.fused else 1

    @property
    def width(self) -> int:
        return self.channels * self.positions


def chain(
    hidden: Sequence[Hidden], inputs: int = 3, classes: int = 5, batch: int = 2
) -> tuple[Graph, Groups]:
    """Linear layers ``inputs -> *hidden -> classes`` on ``[B, inputs]``, and their groups."""
    widths = [inputs, *(h.width for h in hidden), classes]
    generator = torch.Generator().manual_seed(len(widths) + sum(widths))
    module = nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(widths)))
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    forward = fx.Graph()
    node = forward.placeholder("x0")
    node.meta["shape"] = (batch, inputs)
    fields: dict[str, list[Field]] = {}
    channel_of: list[int] = []
    items: list[Group] = []
    for i, width in enumerate(widths[1:]):
        node = forward.call_module(str(i), (node,))
        node.meta["shape"] = (batch, width)
        if i < len(hidden):
            lanes = np.arange(len(channel_of), len(channel_of) + width)
            fields[node.name] = [Field(lanes[None, :], along=1)]
            items.append(_group(i, hidden[i], first=items[-1].channels[-1] + 1 if items else 0))
            channel_of += items[-1].channels.tolist() * hidden[i].positions
    forward.output(node)
    labels = Labels({"eval": fields}, np.array(channel_of, dtype=np.int64), {}, {})
    graph = Graph(module, {"eval": forward}, (InputSpec((batch, inputs)),))
    return graph, Groups(tuple(items), (), labels)


def _group(i: int, hidden: Hidden, first: int) -> Group:
    size = hidden.channels
    index = np.arange(size)[:, None] + size * np.arange(hidden.positions)
    return Group(
        id=i,
        name=f"layer {i}",
        role="hidden",
        channels=np.arange(first, first + size),
        slots=(
            Slot(f"{i}.weight", 0, index),
            Slot(f"{i}.bias", 0, index),
            Slot(f"{i + 1}.weight", 1, index),
        ),
        cells=tuple(
            tuple(range(k * hidden.cell, (k + 1) * hidden.cell)) for k in range(hidden.cells)
        ),
        tie=i if hidden.tie is None else hidden.tie,
        locked=hidden.locked,
    )


def chain_figures(graph: Graph, groups: Groups, removal: Removal) -> Figures:
    """The figures of a chain by slicing its weights and counting what is left, by hand."""
    kept = {name: tensor.detach() for name, tensor in graph.module.named_parameters()}
    for group in groups:
        gone = list(removal.get(group.id, ()))
        for slot in group.slots:
            assert slot.dim != "in"
            alive = torch.ones(graph.module.get_parameter(slot.tensor).shape[slot.dim]).bool()
            alive[torch.from_numpy(slot.index[gone].ravel())] = False
            kept[slot.tensor] = kept[slot.tensor].index_select(slot.dim, alive.nonzero()[:, 0])
    params = sum(t.numel() for t in kept.values())
    macs = sum(t.numel() for name, t in kept.items() if name.endswith("weight"))
    return Figures(memory_bytes=4 * params, params=params, macs=macs)


def random_scores(groups: Groups, seed: int = 0) -> dict[int, torch.Tensor]:
    """Random scores in float64 for every group."""
    generator = torch.Generator().manual_seed(seed)
    return {g.id: torch.rand(g.size, generator=generator, dtype=torch.float64) for g in groups}


def reordered(groups: Groups) -> Groups:
    """The same groups, last first."""
    return replace(groups, items=groups.items[::-1])
