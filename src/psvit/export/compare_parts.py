"""Run each part that was written, and the model's own values around it, on the same images."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from psvit.errors import DataError
from psvit.export.compare import first_images
from psvit.export.parts import Part, Tap
from psvit.export.records import TOLERANCE, PartMatch
from psvit.inference import recorded
from psvit.neurons import reset_state
from psvit.records import Graph

CHUNK = 10
"""Images at a time: the values around all parts are held at once."""


def compare_parts(
    graph: Graph,
    parts: Mapping[str, Part],
    runs: Mapping[str, Callable[[Tensor], Tensor]],
    batches: Iterable[Any],
    n: int,
) -> tuple[PartMatch, ...]:
    """Each part gets what the model has at its input, and its output is held against the model's.

    ``graph``: the recorded model, its norms not folded. ``batches``: images, or
    ``(images, labels)``, of which the first ``n`` are looked at. Raises DataError without images.
    """
    names = sorted({tap.node for part in parts.values() for tap in (part.input, part.output)})
    model = tapped(graph, names)
    counts = {name: _Count() for name in parts}
    for images, _ in first_images(batches, n):
        for chunk in torch.split(images, CHUNK):
            values = dict(zip(names, _values(model, chunk), strict=True))
            for name, part in parts.items():
                own = seen_at(part.output, values[part.output.node])
                other = runs[name](seen_at(part.input, values[part.input.node]))
                counts[name].add(own, other)
    if not all(count.n for count in counts.values()):
        raise DataError("the data has no images: nothing to compare the export on")
    return tuple(counts[name].match(name, part) for name, part in parts.items())


def tapped(graph: Graph, names: Iterable[str]) -> nn.Module:
    """The model with the values of these nodes as its outputs."""
    forward = copy.deepcopy(graph.forwards["eval"])
    nodes = {node.name: node for node in forward.nodes}
    output = next(node for node in forward.nodes if node.op == "output")
    output.args = (tuple(nodes[name] for name in names),)
    return recorded(Graph(graph.module, {"eval": forward}, graph.inputs, graph.fixed))


def _values(model: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    reset_state(model)
    with torch.no_grad():
        values: tuple[Tensor, ...] = model(images)
    reset_state(model)
    return values


def seen_at(tap: Tap, value: Tensor) -> Tensor:
    """A value of the model as a part has it: ``[T, B, *shape]``, T = 1 where there is no time."""
    order = tap.place.order
    rows = value.reshape(tap.steps, -1, len(order))
    return rows[..., order].view(*rows.shape[:2], *tap.place.shape)


@dataclass
class _Count:
    """What adds up over the images."""

    n: int = 0
    values: int = 0
    spikes: int = 0
    flipped: int = 0
    binary: bool = True
    gaps: list[Tensor] = field(default_factory=list)

    def add(self, own: Tensor, other: Tensor) -> None:
        """``[T, B, *shape]``, the model's and the part's."""
        if own.shape != other.shape:
            raise DataError(
                f"the part gives values of shape {list(other.shape)}, the model {list(own.shape)}"
            )
        gap = (own.double() - other.double()).abs().transpose(0, 1).flatten(1)
        self.n += len(gap)
        self.values += own.numel()
        self.flipped += int((~(gap <= TOLERANCE)).sum())  # NaN differs
        self.binary &= bool(((own == 0) | (own == 1)).all())
        self.spikes += int((own == 1).sum())
        self.gaps.append(gap.amax(1))

    def match(self, name: str, part: Part) -> PartMatch:
        """What there is to say of a part."""
        gaps = torch.cat(self.gaps)
        same = gaps <= TOLERANCE
        return PartMatch(
            name=name,
            layers=part.layers,
            input_shape=part.input.place.shape,
            output_shape=part.output.place.shape,
            n=self.n,
            values=self.values,
            spikes=self.spikes if self.binary else None,
            differing_values=self.flipped,
            differing=int((~same).sum()),
            largest=float(gaps[same].max()) if bool(same.any()) else 0.0,
            largest_differing=float(gaps[~same].max()) if bool((~same).any()) else 0.0,
        )


def folded_taps(original: fx.Graph, simple: fx.Graph) -> dict[str, str]:
    """Node that a norm was folded behind -> the norm: what the one has now, the other had."""
    kept = {node.name for node in simple.nodes}
    taps: dict[str, str] = {}
    origin: dict[str, str] = {}  # of a norm after a norm, what the first was folded behind
    for node in original.nodes:
        if node.name not in kept and node.args and isinstance(node.args[0], fx.Node):
            before = node.args[0].name
            origin[node.name] = origin.get(before, before)
            taps[origin[node.name]] = node.name
    return taps
