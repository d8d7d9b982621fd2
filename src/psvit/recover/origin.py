"""What a model to recover was cut from, and how new weights of the dense model get into it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from psvit.calibrate import Compensator
from psvit.groups import make_plan, removal_of
from psvit.records import Graph, Groups, Plan, Removal
from psvit.rewrite import rewrite


@dataclass(frozen=True, eq=False)
class Origin:
    """The dense model (a graph and its groups) and the plan that cut it.

    ``dense``: moments of the dense model, if they have been collected already. ``device`` and
    ``seed``: where models run, and what fixes random draws.
    """

    graph: Graph
    groups: Groups
    plan: Plan
    dense: Compensator | None = None
    device: str | torch.device = "cpu"
    seed: int = 0

    @property
    def removal(self) -> Removal:
        """The channels that went, by group."""
        return removal_of(self.graph, self.plan)

    def put(self, model: nn.Module, values: Mapping[str, torch.Tensor]) -> None:
        """Write ``values`` of the dense model's tensors, of full size, into the cut ``model``."""
        tensors = dict(model.named_parameters()) | dict(model.named_buffers())
        with torch.no_grad():
            for name, value in values.items():
                tensors[name].copy_(self.cut(name, value))

    def cut(self, name: str, value: torch.Tensor) -> torch.Tensor:
        """What the plan leaves of a tensor of full size, by its name in the dense model."""
        keep = self.plan.keep.get(name, {})
        inputs = keep.get("in")
        if inputs is not None:
            layer = self.graph.module.get_submodule(name.rpartition(".")[0])
            return _cut_grouped(value, int(layer.groups), keep.get("0"), inputs)  # type: ignore[arg-type]
        return part_kept(self.plan, name, value)


def part_kept(plan: Plan, name: str, value: torch.Tensor) -> torch.Tensor:
    """What ``plan`` leaves of a tensor of full size that is no weight of a grouped convolution."""
    for dim, kept in plan.keep.get(name, {}).items():
        value = value.index_select(int(dim), torch.tensor(kept, device=value.device))
    return value


def cut(
    graph: Graph, groups: Groups, removal: Removal, dense: Compensator | None = None
) -> nn.Module:
    """The smaller model without these channels; compensated by ``dense``, if it is given."""
    plan = make_plan(graph, groups, removal)
    small = rewrite(graph, plan)
    if dense is not None:
        Origin(graph, groups, plan).put(small, dense.values(removal))
    return small


def _cut_grouped(
    weight: torch.Tensor, groups: int, outputs: Sequence[int] | None, inputs: Sequence[int]
) -> torch.Tensor:
    """``[G * O, I, *kernel]`` of a grouped convolution whose groups keep different inputs.

    The inputs are counted over the whole layer, ``G * I`` of them.
    """
    size, width = len(weight) // groups, weight.shape[1]
    of_group = [[i % width for i in inputs if i // width == g] for g in range(groups)]
    rows = range(len(weight)) if outputs is None else outputs
    return torch.stack([weight[row][of_group[row // size]] for row in rows])
