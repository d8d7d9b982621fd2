"""The numbers of channels that each tie may give up: its ladder.

Without alignment a ladder is 0, 1, 2, ... channels a cell, up to leaving ``min_keep``. With
``align`` = A only the rungs stay that make the total width of each parameter axis a multiple of
A. Where an axis holds several ties (a concatenation), each must keep the remainder as it is. A
tie with no such rung is left as it is, and ``Ladders.left`` says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from psvit.errors import OptionError
from psvit.records import Dim, Graph, Group, Groups


@dataclass(frozen=True)
class Ladders:
    """``rungs[tie]``: channels a cell that may go, ascending, starting with 0.

    ``cell[tie]``: channels in the tie's smallest cell, so ``rung / cell`` is the fraction
    removed. ``left``: in words, the groups that alignment keeps from being pruned.
    """

    rungs: Mapping[int, tuple[int, ...]]
    cell: Mapping[int, int]
    left: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Axis:
    """An axis of a parameter: its width, and what one channel a cell takes off it, by tie."""

    width: int
    per_level: Mapping[int, int]

    def admits(self, tie: int, level: int, align: int) -> bool:
        lost = level * self.per_level[tie]
        alone = len(self.per_level) == 1
        return (lost if self.width % align == 0 or not alone else self.width - lost) % align == 0


def build_ladders(graph: Graph, groups: Groups, align: int = 1, min_keep: int = 1) -> Ladders:
    """The rungs of every tie whose groups can all be pruned.

    Raises OptionError for an ``align`` or a ``min_keep`` that is not a whole number above 0.
    """
    for name, value in (("align", align), ("min_keep", min_keep)):
        if type(value) is not int or value < 1:
            raise OptionError(f"{name} is {value!r}, expected a whole number of 1 or more")
    ties = prunable_ties(groups)
    axes = _axes(graph.module, ties)
    rungs, cell, left = {}, {}, []
    for tie, members in ties.items():
        cell[tie] = min(len(c) for group in members for c in group.cells)
        every = range(1, cell[tie] - min_keep + 1)
        mine = [axis for axis in axes if tie in axis.per_level]
        fitting = [k for k in every if all(axis.admits(tie, k, align) for axis in mine)]
        rungs[tie] = (0, *fitting)
        if every and not fitting:
            left += [_why_left(group, align) for group in members]
    return Ladders(rungs, cell, tuple(left))


def prunable_ties(groups: Groups) -> dict[int, list[Group]]:
    """Tie id -> its groups, for the ties of which every group can be pruned."""
    members: dict[int, list[Group]] = defaultdict(list)
    for group in groups:
        members[group.tie].append(group)
    able = {group.id for group in groups.prunable}
    return {tie: found for tie, found in members.items() if all(g.id in able for g in found)}


def _axes(module: nn.Module, ties: Mapping[int, list[Group]]) -> list[_Axis]:
    """Every parameter axis that a tie thins out."""
    shapes = {n: tuple(p.shape) for n, p in module.named_parameters(remove_duplicate=False)}
    taken: dict[tuple[str, Dim], dict[int, int]] = defaultdict(lambda: defaultdict(int))
    spread: dict[tuple[str, Dim], int] = defaultdict(int)
    for tie, members in ties.items():
        for group in members:
            for slot in group.slots:
                if slot.tensor in shapes:
                    key = (slot.tensor, slot.dim)
                    taken[key][tie] += len(group.cells) * slot.index.shape[1]
                    spread[key] += slot.index.size
    # the inputs of a grouped convolution are not an axis: their number is what the groups hold
    return [
        _Axis(spread[tensor, dim] if dim == "in" else shapes[tensor][dim], dict(per_level))
        for (tensor, dim), per_level in taken.items()
    ]


def _why_left(group: Group, align: int) -> str:
    return (
        f"{group.name}: no width below {group.size} is a multiple of {align} on every axis that "
        f"it occupies ({len(group.cells)} cells of {len(group.cells[0])})"
    )
