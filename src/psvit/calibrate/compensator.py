"""One pass over calibration images, ready for everything that is done with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from psvit.calibrate.compensate import RIDGE, compensate
from psvit.calibrate.consumers import Consumer, list_consumers
from psvit.calibrate.moments import Moments, Progress, collect
from psvit.calibrate.products import list_products
from psvit.records import Graph, Groups, Removal


@dataclass(frozen=True, eq=False)
class Compensator:
    """The weights of a dense model and the moments of their inputs: what refits any removal.

    ``ridge`` and ``restore``: see ``psvit.calibrate.compensate``.
    """

    graph: Graph
    groups: Groups
    consumers: tuple[Consumer, ...]
    moments: Moments
    ridge: float = RIDGE
    restore: bool = True

    def values(self, removal: Removal) -> dict[str, torch.Tensor]:
        """New values of tensors of the unpruned model; see ``psvit.calibrate.compensate``."""
        module = self.graph.module
        return compensate(
            module, self.consumers, self.moments, removal, self.ridge, restore=self.restore
        )


def calibrate(
    graph: Graph,
    groups: Groups,
    images: Sequence[Any],
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> Compensator:
    """Run the dense model on batches of training images, and keep what compensation needs.

    Raises as ``psvit.calibrate.collect`` does.
    """
    consumers = list_consumers(graph, groups)
    moments = collect(
        graph,
        consumers,
        images,
        products=list_products(graph, groups),
        seed=seed,
        device=device,
        progress=progress,
    )
    notes = (*moments.notes, *_unread(groups, moments, consumers))
    return Compensator(graph, groups, consumers, replace(moments, notes=notes))


def _unread(groups: Groups, moments: Moments, consumers: Sequence[Consumer]) -> list[str]:
    """A note on the groups that no weight reads which could be refitted, and no known product."""
    read = {g for c in consumers if c.weight in moments.parts for g in c.groups_read}
    names = [g.name for g in groups.prunable if g.id not in read and g.id not in moments.products]
    if not names:
        return []
    return [
        f"no linear layer or convolution that can be refitted reads the channels of "
        f"{', '.join(names)}: nothing makes up for them, and they are ranked by their weights"
    ]
