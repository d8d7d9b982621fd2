"""Figures of a model from which any channels are removed, computed from shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from psvit.cost.bytes import count_bytes
from psvit.cost.energy import energy_pj
from psvit.cost.latency import Latency
from psvit.cost.macs import Operation, count_macs, list_operations
from psvit.cost.params import count_params
from psvit.cost.sops import Activity
from psvit.cost.tensors import Shape, Tensors, check_removal, list_tensors
from psvit.cost.terms import BoolArray
from psvit.groups import dead_lanes
from psvit.records import Figures, Graph, Groups, IntArray, Removal


@dataclass(frozen=True, eq=False)
class Meter:
    """What ``measure`` needs to know of a graph, read once. Make one with ``prepare``."""

    groups: Groups
    tensors: Tensors
    operations: tuple[Operation, ...]
    channels: Mapping[int, IntArray]
    activity: Activity | None = None
    latency: Latency | None = None

    def measure(self, removal: Removal) -> Figures:
        """Cost of what is left after ``removal``; see ``measure``."""
        shapes, dead = self.left(removal)
        sops, energy = None, None
        if self.activity is not None:
            sops = self.activity.sops(shapes, dead)
            energy = energy_pj(self.activity.macs(shapes, dead), sops)
        return Figures(
            memory_bytes=count_bytes(self.tensors, shapes),
            params=count_params(self.tensors, shapes),
            macs=count_macs(self.operations, shapes, dead),
            sops=sops,
            energy_pj=energy,
            latency_ms=None if self.latency is None else self.latency.predict_ms(shapes, dead),
        )

    def left(self, removal: Removal) -> tuple[dict[str, Shape], BoolArray | None]:
        """The shapes that parameters and buffers have left, and which lanes are dead, if any."""
        removed = check_removal(self.groups, removal)
        gone = np.concatenate(
            [np.zeros(0, dtype=np.int64), *(self.channels[g][c] for g, c in removed.items())]
        )
        dead = dead_lanes(self.groups.labels, gone.tolist()) if len(gone) else None
        return self.tensors.shapes(removed), dead


def prepare(graph: Graph, groups: Groups, activity: Activity | None = None) -> Meter:
    """Read shapes and operations once, to measure many removals.

    With ``activity``, observed on this graph and these groups, figures have SOPs and energy,
    predicted from the firing of the channels that stay (``psvit.cost.sops``).
    """
    tensors = list_tensors(graph, groups)
    return Meter(
        groups,
        tensors,
        list_operations(graph, groups.labels, tensors),
        {group.id: group.channels for group in groups},
        activity,
    )


def measure(
    graph: Graph, groups: Groups, removal: Removal, activity: Activity | None = None
) -> Figures:
    """Figures of the model that ``rewrite`` would make of ``removal``, without making it.

    ``memory_bytes`` is parameters and buffers, ``macs`` are those of one image over all T
    steps; see ``psvit.cost.bytes``, ``params`` and ``macs`` for the conventions. Raises
    PlanError for a group or a channel that does not exist. ``activity``: see ``prepare``.
    """
    return prepare(graph, groups, activity).measure(removal)
