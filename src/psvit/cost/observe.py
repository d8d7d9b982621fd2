"""observe(graph, images) -> Activity: run a recorded model and see what spikes.

The recording is run node by node, and the inputs of every operation that costs MACs are looked
at. Batches stream through: what is kept are counts, one number a channel at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
import torch
from torch import fx

from psvit.capture.running import Watcher, inputs_in, run_batch, settled
from psvit.cost.macs import batch_axis, list_operations, nodes_from_input, uncounted
from psvit.cost.names import operation_names
from psvit.cost.rates import LayerRate, Rates
from psvit.cost.sides import Part, describe
from psvit.cost.sops import Activity, Counted, Spikes, macs_of
from psvit.cost.spikes import Seen, comes_from_neuron, is_source
from psvit.cost.tensors import Tensors, list_tensors
from psvit.cost.terms import Sums, Term, UnalignedError
from psvit.errors import DataError
from psvit.groups import dead_lanes
from psvit.records import Field, Graph, Groups, Labels

Progress = Callable[[int, int | None], None]
"""Called with the images seen and, where known, how many there will be."""


def observe(
    graph: Graph,
    batches: Iterable[Any],
    groups: Groups | None = None,
    *,
    limit: int | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> Activity:
    """Firing rates, SOPs and MACs of a recorded model on the images of ``batches``.

    A batch is a tensor, or a sequence that starts with as many tensors as the model takes, such
    as ``(images, labels)``. At most ``limit`` images are run. With ``groups`` what is counted is
    kept by channel, so that ``prepare(graph, groups, activity)`` prices any removal.

    Neuron state is reset before every batch; modes, buffers, device and the random state, which
    starts from ``seed`` here, are restored. Raises DataError for no image or an empty batch,
    ModelError if the model fails on a batch.
    """
    device = torch.device(device)
    labels = _NO_LABELS if groups is None else _mortal(groups)
    watch = _Watch(graph, labels, list_tensors(graph, groups or ()))
    axis, inputs, n = batch_axis(graph), len(graph.inputs), 0
    with settled(graph, device, seed):
        for batch in batches:
            images = inputs_in(batch, inputs)
            if limit is not None:
                images = [x.narrow(axis, 0, min(limit - n, x.shape[axis])) for x in images]
            if images[0].shape[axis] == 0:
                continue
            n += images[0].shape[axis]
            watch.run([x.to(device) for x in images])
            if progress is not None:
                progress(n, limit)
            if n == limit:
                break
    if n == 0:
        raise DataError("the data have no images: nothing to measure firing rates on")
    return watch.activity(n, seed)


_NO_LABELS = Labels({"eval": {}}, np.zeros(0, dtype=np.int64), {}, {})


def _mortal(groups: Groups) -> Labels:
    """The labels without the lanes that are nobody's channel: of images, steps and positions.

    No removal takes those, and lanes of images would not fit another batch size. Locked groups
    keep theirs: a head may take some along.
    """
    labels = groups.labels
    channels = [np.zeros(0, dtype=np.int64), *(group.channels for group in groups)]
    dead = dead_lanes(labels, np.concatenate(channels).tolist())
    fields = {
        node: [one for one in of_node if isinstance(one, Field) and dead[one.lanes].any()]
        for node, of_node in labels.fields.get("eval", {}).items()
    }
    return replace(labels, fields={**labels.fields, "eval": fields})


@dataclass
class _Tally:
    """What is being counted for one part of an operation."""

    name: str
    part: Part
    seen: tuple[Seen | None, ...]
    term: Term | None
    sums: Sums = field(default_factory=dict)
    estimated: bool = False

    @property
    def live(self) -> frozenset[int]:
        """The sides that may still be spikes."""
        return frozenset(i for i, one in enumerate(self.seen) if one is not None and one.spikes)

    def look(self, env: dict[fx.Node, Any]) -> None:
        """Take note of one batch, whose tensors are in ``env``."""
        if self.term is None:
            return
        tensors = [None if side.node is None else env[side.node] for side in self.term.sides]
        for one, x in zip(self.seen, tensors, strict=True):
            if one is not None and x is not None:
                one.look(x)
        live = self.live
        if not live:
            self.sums = {}
            return
        try:
            fresh = self.term.count(tensors, live)
        except UnalignedError:
            self._forget_channels()
            fresh = self.term.count(tensors, live)
        self.sums = {key: self.sums.get(key, 0.0) + sums for key, sums in fresh.items()}

    def _forget_channels(self) -> None:
        """Go on with totals, which are all that can be counted for batches of this size."""
        assert self.term is not None
        totals = {
            key: np.asarray(self.term.price(key, sums, None)) for key, sums in self.sums.items()
        }
        self.term, self.sums, self.estimated = self.term.coarse(), totals, True

    def spikes(self, n: int) -> Spikes | None:
        """The sums under what the sides turned out to be, over ``n`` images."""
        live = self.live
        if self.term is None or not live:
            return None
        key = tuple(sorted(live))
        worth = prod(one.worth for i, one in enumerate(self.seen) if one is not None and i in live)
        return Spikes(self.term, key, self.sums[key], worth * n, self.estimated)


class _Watch:
    """Runs a recording and keeps the tallies."""

    def __init__(self, graph: Graph, labels: Labels, tensors: Tensors) -> None:
        self.graph = graph
        self.names = operation_names(graph.forwards["eval"])
        self.shapes = {name: stored.shape for name, stored in tensors.stored.items()}
        from_input = nodes_from_input(graph)
        self.tallies = [
            _Tally(self.names[operation.node] + part.suffix, part, _seen(graph, part), part.term)
            for operation in list_operations(graph, labels, tensors)
            for part in describe(graph, labels, operation, from_input)
        ]
        self.neurons = {
            node: Seen(from_neuron=True)
            for node in graph.forwards["eval"].nodes
            if node in from_input and "shape" in node.meta and is_source(graph, node)
        }
        self._at: dict[fx.Node, list[_Tally]] = {}
        for tally in self.tallies:
            self._at.setdefault(tally.part.operation.node, []).append(tally)

    def run(self, inputs: Sequence[torch.Tensor]) -> None:
        """One batch, from fresh neurons."""
        run_batch(self.graph, _Runner(self.graph, self._at, self.neurons), inputs)

    def activity(self, n: int, seed: int) -> Activity:
        """What was counted over ``n`` images."""
        counted = []
        layers: dict[str, LayerRate] = {}
        estimated = []
        for tally in self.tallies:
            macs = macs_of(tally.part, self.shapes, None)
            one = Counted(tally.name, tally.part, macs, tally.spikes(n))
            counted.append(one)
            activations = [seen for seen in tally.seen if seen is not None]
            layers[tally.name] = LayerRate(
                kind=self._kind(tally.part),
                rates=tuple(seen.rate for seen in activations),
                spikes=tuple(seen.spikes for seen in activations),
                macs_dense=macs,
                sops=one.sops(self.shapes, None),
            )
            if tally.estimated and one.spikes is not None:
                estimated.append(tally.name)
        neurons = {self.names[node]: seen.rate for node, seen in self.neurons.items()}
        rates = Rates(n, seed, layers, neurons, tuple(estimated), self._unknown())
        return Activity(rates, tuple(counted))

    def _kind(self, part: Part) -> str:
        node = part.operation.node
        if node.op == "call_module":
            return type(self.graph.module.get_submodule(str(node.target))).__name__
        return self.names[node].rpartition(":")[2].partition("#")[0] + part.suffix

    def _unknown(self) -> tuple[str, ...]:
        """Operations that no rule counts, and those that count as real-valued for want of one."""
        real = [
            f"{tally.name} (counted as real-valued)"
            for tally in self.tallies
            if tally.part.term is None
        ]
        return (*uncounted(self.graph), *real)


class _Runner(Watcher):
    """Runs the eval forward and shows every tally its tensors."""

    def __init__(
        self, graph: Graph, at: dict[fx.Node, list[_Tally]], neurons: dict[fx.Node, Seen]
    ) -> None:
        super().__init__(graph)
        self._at = at
        self._neurons = neurons

    def run_node(self, n: fx.Node) -> Any:
        out = super().run_node(n)
        for tally in self._at.get(n, ()):  # no such operation changes what it multiplies
            tally.look(self.env)
        neuron = self._neurons.get(n)
        if neuron is not None and isinstance(out, torch.Tensor):
            neuron.look(out)
        return out


def _seen(graph: Graph, part: Part) -> tuple[Seen | None, ...]:
    """A record for each side that may be spikes."""
    return tuple(
        Seen(comes_from_neuron(graph, side.node))
        if side.spiking and side.node is not None
        else None
        for side in (() if part.term is None else part.term.sides)
    )
