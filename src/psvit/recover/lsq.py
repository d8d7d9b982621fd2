"""Sequential least squares: let each layer of the pruned model put out what the dense one did.

Layer by layer in the order they run, the weights that are left are fitted to the dense model's
outputs y of that layer, on the inputs x that the pruned model really has at that moment, with all
layers before it fitted already:

    minimise  sum |y - W x - b|^2 + l |W - W0|^2        then        W_o <- W_o sd(y_o) / sd(W_o x)

over W and b; W0 are the weights that there were, and l is a ridge in units of the mean variance of
x. The fit to earlier layers' outputs is that of He, Zhang and Sun 2017 ("Channel Pruning for
Accelerating Very Deep Neural Networks", arXiv 1707.06168, section 3.2), there without the ridge.
Least squares shrinks what it cannot predict, and a spiking layer with less variance fires less:
so each output gets back the variance that it had (ours). The constant goes into the layer's bias,
or out of the running mean of the batch norm that follows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx, nn

from psvit.calibrate import Consumer, check_images, count_rows, list_consumers, patches
from psvit.calibrate.moments import FEWEST_ROWS, ROWS_PER_COLUMN
from psvit.capture.copying import private_copy
from psvit.capture.prefix import Prefix
from psvit.capture.program import (
    Program,
    first_reader,
    prepare_program,
    safe_start,
    walk,
)
from psvit.errors import ModelError
from psvit.groups import make_plan
from psvit.records import Graph, Groups, Removal
from psvit.recover.least_squares import RIDGE, Sums, solve
from psvit.recover.origin import Origin
from psvit.recover.record import Record
from psvit.rewrite.zeroing import Edit, edits_of

Progress = Callable[[int, int | None], None]
"""Called with the forwards done and to do, counted in layers times images."""


@dataclass(frozen=True, eq=False)
class Fit:
    """New values of tensors of the unpruned model, by name and of full size; remarks in words."""

    tensors: Mapping[str, torch.Tensor]
    notes: tuple[str, ...] = ()


def lsq(
    graph: Graph,
    groups: Groups,
    removal: Removal,
    images: Sequence[torch.Tensor],
    *,
    start: Mapping[str, torch.Tensor] | None = None,
    ridge: float = RIDGE,
    restore: bool = True,
    rows_per_column: int = ROWS_PER_COLUMN,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> Fit:
    """Fit every layer behind the first that ``removal`` (group id -> channels) changes.

    ``images``: batches ``[B, C, H, W]`` of training images, without labels. ``start``: values of
    tensors to start from, such as those of a compensation, if not the model's own.
    ``restore`` False leaves the variances as least squares makes them. ``rows_per_column`` bounds
    the rows (positions of images) that a layer is fitted on. Fitted are linear layers and
    convolutions, modules or functions, that ``psvit.calibrate`` lists; slices of removed channels
    are 0 in the result. The graph is not touched.

    Both models run once in all, as long as their activations fit into the memory of
    ``psvit.capture.prefix``; batches that do not fit run again for each layer. Raises
    DataError for images that cannot be used, ModelError if the model cannot be run on them.
    """
    if len(graph.inputs) != 1:
        raise ModelError(
            f"the model takes {len(graph.inputs)} inputs: recovery is for models of images"
        )
    check_images(images)
    place = torch.device(device)
    batches = [batch.to(place) for batch in images]
    devices = [place] if place.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices=devices):
        dense = _Side.of(graph, private_copy(graph.module), batches, seed, place)
        copy = private_copy(graph.module)
        _put(copy, start or {})
        edits = edits_of(copy, groups.labels, make_plan(graph, groups, removal))
        _zero(edits)
        pruned = _Side.of(graph, copy, batches, seed, place)
        edits = edits_of(copy, groups.labels, make_plan(graph, groups, removal))
        first = first_reader(pruned.program, [edit.tensor for edit in edits])
        layers = [s for s in _layers(graph, groups, pruned.program) if s.last > first]
        tell = _count(len(layers) * sum(len(b) for b in batches), progress)
        draw = torch.Generator().manual_seed(seed)
        notes, changed = [], dict.fromkeys(start or ())
        for layer in layers:
            layer = replace(layer, rows_per_column=rows_per_column)
            sums = _sums(layer, dense, pruned, batches, draw, tell)
            notes += layer.remarks(sums)
            for consumer, each in zip(layer.consumers, sums, strict=True):
                new = _fitted(consumer, each, removal, dense, pruned, ridge, restore)
                _put(copy, new)
                changed |= dict.fromkeys(new)
            _zero(edits)
        tensors = _tensors(copy)
        return Fit({name: tensors[name].clone().cpu() for name in changed}, tuple(notes))


def refitted(model: nn.Module, images: Sequence[torch.Tensor], origin: Origin | None) -> Record:
    """Fit ``model``, which was cut as ``origin`` says, in place.

    Without an origin it is a dense model, a control: nothing was lost, and nothing changes.
    """
    if origin is None:
        return Record(0)
    fit = lsq(
        origin.graph,
        origin.groups,
        origin.removal,
        images,
        seed=origin.seed,
        device=origin.device,
    )
    origin.put(model, fit.tensors)
    return Record(sum(len(batch) for batch in images), notes=fit.notes)


@dataclass(frozen=True, eq=False)
class _Side:
    """One of the two models that run beside one another."""

    program: Program
    prefix: Prefix
    tensors: Mapping[str, torch.Tensor]

    @staticmethod
    def of(
        graph: Graph, root: nn.Module, batches: Sequence[torch.Tensor], seed: int, place: Any
    ) -> _Side:
        root.to(place).eval()
        program = prepare_program(root, graph.forwards["eval"], (batches[0],))
        return _Side(program, Prefix(program, batches, seed), _tensors(root))

    def inputs(self, layer: _Layer, batch: int) -> Iterator[tuple[fx.Node, torch.Tensor]]:
        """Each call of a layer and what it reads."""
        values = self.prefix.at(batch, layer.start)
        left = len(layer.calls)
        for node in walk(self.program, values, layer.start, layer.last + 1):
            if node in layer.calls:
                yield node, values[layer.calls[node]]
                left -= 1
                if not left:
                    return  # what the last call puts out is of no use yet


@dataclass(frozen=True, eq=False)
class _Layer:
    """Consumers that read the same tensors in the same way. ``calls``: call -> what it reads.

    The forward is run from position ``start``; ``last`` is the position of the last call.
    """

    consumers: tuple[Consumer, ...]
    calls: Mapping[fx.Node, fx.Node]
    start: int
    last: int
    rows_per_column: int = ROWS_PER_COLUMN

    @property
    def width(self) -> int:
        geometry = self.consumers[0].geometry
        return len(self.consumers[0].group) // geometry.groups * geometry.taps

    def rows(self, x: torch.Tensor, images: int, batch: int, draw: torch.Generator) -> Any:
        """The rows of a call that count; None for all."""
        here = count_rows(self.consumers[0].geometry, x.shape)
        expected = here * images / max(batch, 1) * len(self.calls)
        most = max(FEWEST_ROWS, self.rows_per_column * self.width)
        if expected <= most:
            return None
        count = min(here, max(1, round(here * most / expected)))
        return torch.randperm(here, generator=draw)[:count].to(x.device)

    def remarks(self, sums: Sequence[Sums]) -> list[str]:
        rows = sums[0].rows
        if rows >= self.width:
            return []
        return [
            f"the calibration images give {self.consumers[0].name} {rows:,} rows for "
            f"{self.width:,} inputs: the fit leans on its ridge there, more images would help"
        ]


def _layers(graph: Graph, groups: Groups, program: Program) -> list[_Layer]:
    """Every layer in the order of its first call."""
    position = {node: i for i, node in enumerate(program.nodes)}
    found: dict[Any, list[Consumer]] = {}
    for consumer in list_consumers(graph, groups):
        found.setdefault((consumer.sources, consumer.geometry), []).append(consumer)
    layers = []
    for alike in found.values():
        one = alike[0]
        at = [position[call] for call in one.calls]
        calls = dict(zip(one.calls, one.sources, strict=True))
        layers.append(_Layer(tuple(alike), calls, safe_start(program, min(at)), max(at)))
    return sorted(layers, key=lambda layer: (layer.start, layer.last))


def _sums(
    layer: _Layer,
    dense: _Side,
    pruned: _Side,
    batches: Sequence[torch.Tensor],
    draw: torch.Generator,
    tell: Callable[[int], None],
) -> list[Sums]:
    """The moments of the pruned model's inputs and the dense model's outputs, of each consumer."""
    weights = [dense.tensors[consumer.weight] for consumer in layer.consumers]
    geometry = layer.consumers[0].geometry
    sums = [Sums() for _ in layer.consumers]
    images = sum(len(batch) for batch in batches)
    for index, batch in enumerate(batches):
        pairs = zip(dense.inputs(layer, index), pruned.inputs(layer, index), strict=True)
        for (_, x_dense), (_, x) in pairs:
            rows = layer.rows(x, images, len(batch), draw)
            both = zip(
                patches(geometry, _real(x_dense), rows),
                patches(geometry, _real(x), rows),
                strict=True,
            )
            for before, now in both:  # [G, n, c]
                second = Sums.second_of(now)
                for one, weight in zip(sums, weights, strict=True):
                    each = weight.reshape(geometry.groups, -1, now.shape[2]).to(now.dtype)
                    one.add(now, before @ each.transpose(1, 2), second)
        tell(len(batch))
    return sums


def _fitted(
    consumer: Consumer,
    sums: Sums,
    removal: Removal,
    dense: _Side,
    pruned: _Side,
    ridge: float,
    restore: bool,
) -> dict[str, torch.Tensor]:
    """New values of the layer's weight and of what absorbs its constant."""
    old = pruned.tensors[consumer.weight]
    lost = consumer.lost(removal).to(old.device)
    start = old.double().reshape(consumer.geometry.groups, -1, lost.shape[1])
    weight, constant = solve(
        sums, start, lost, centred=consumer.absorbs, ridge=ridge, restore=restore
    )
    new = {consumer.weight: weight.reshape(old.shape)}
    if consumer.bias is not None:
        new[consumer.bias] = dense.tensors[consumer.bias].double() + constant
    elif consumer.norm is not None:
        mean = f"{consumer.norm}.running_mean"
        new[mean] = dense.tensors[mean].double() - constant
    return new


def _real(x: torch.Tensor) -> torch.Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _tensors(root: nn.Module) -> dict[str, torch.Tensor]:
    return {
        name: tensor.detach() for name, tensor in (*root.named_parameters(), *root.named_buffers())
    }


def _put(root: nn.Module, new: Mapping[str, torch.Tensor]) -> None:
    tensors = _tensors(root)
    for name, value in new.items():
        tensors[name].copy_(value.to(tensors[name]))


def _zero(edits: Iterable[Edit]) -> None:
    for edit in edits:
        for index in edit.slices:
            edit.tensor[index] = 0


def _count(total: int, progress: Progress | None) -> Callable[[int], None]:
    done = 0

    def tell(more: int) -> None:
        nonlocal done
        done += more
        if progress is not None:
            progress(done, total)

    return tell


__all__ = ["Fit", "lsq"]
