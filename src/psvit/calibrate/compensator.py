"""One pass over calibration images, ready for everything that is done with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from psvit.calibrate.compensate import RIDGE, compensate, is_refitted
from psvit.calibrate.consumers import Consumer, list_consumers
from psvit.calibrate.moments import Moments, Progress, collect
from psvit.calibrate.products import list_products
from psvit.records import Graph, Groups, Removal


@dataclass(frozen=True, eq=False)
class Compensator:
    """The weights of a dense model and the moments of their inputs: what refits any removal."""

    graph: Graph
    groups: Groups
    consumers: tuple[Consumer, ...]
    moments: Moments
    ridge: float = RIDGE

    def changed(self, removal: Removal) -> tuple[str, ...]:
        """The names of what ``values`` gives, without solving for it."""
        found: list[str] = []
        for consumer in self.consumers:
            if is_refitted(consumer, self.moments, consumer.lost(removal)):
                found += [consumer.weight, *filter(None, [consumer.absorber])]
        return tuple(found)

    def values(self, removal: Removal) -> dict[str, torch.Tensor]:
        """New values of tensors of the unpruned model; see ``psvit.calibrate.compensate``."""
        module = self.graph.module
        return compensate(module, self.consumers, self.moments, removal, self.ridge)


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
    return Compensator(graph, groups, consumers, moments)
