"""The parts of a forward that a format of layers and sums alone can express, and what is left.

A part has one input and one output, a layer's, as importers of NIR take them: all that is computed
in between is in it. Each is grown backwards from its last layer over what only it reads, as far as
there is still one input, so that no part can be made longer. Moves of elements vanish, or become a
flattening; where they would have to become anything else, a part ends.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from torch import fx, nn

from psvit.export.places import (
    Place,
    Read,
    Shape,
    as_they_are,
    channels_first,
    features,
    flattening,
    is_move,
    read_of,
    seen_through,
)
from psvit.export.records import Left
from psvit.inference import operation
from psvit.records import Graph

ADDITIONS = frozenset({"add", "add_", "iadd", "__add__", "__iadd__", "__radd__"})
INPUT = -1
"""The number of a part's input, where its steps have numbers from 0."""


class Kind(Enum):
    """How a layer takes features: in order, channels last, or each for itself."""

    ORDERED = "ordered"
    LINEAR = "linear"
    EACH = "each"


NOWHERE = "NIR has no such node"

KindOf = Callable[[nn.Module, int], Kind | str]
"""Of a layer that is called so many times in a forward; in words, why it cannot be expressed."""


@dataclass(frozen=True, eq=False)
class Step:
    """A layer of a part, or an addition (``module`` None).

    ``inputs``: numbers of earlier steps, or INPUT; ``flattened``: the axes, first and last, of each
    that are merged before, (0, 0) for none. ``shape``: of what comes out.
    """

    name: str
    module: nn.Module | None
    inputs: tuple[int, ...]
    flattened: tuple[tuple[int, int], ...]
    shape: Shape


@dataclass(frozen=True, eq=False)
class Tap:
    """Where the model has a part's input or output: the value of ``node``, the p-th feature of
    the part being its ``place.order[p]``-th. ``steps``: rows are this many for each image."""

    node: str
    place: Place
    steps: int


@dataclass(frozen=True, eq=False)
class Part:
    """Steps in order; the last gives the output."""

    name: str
    steps: tuple[Step, ...]
    input: Tap
    output: Tap

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of its layers."""
        return tuple(step.name for step in self.steps if step.module is not None)


@dataclass(frozen=True, eq=False)
class _Operation:
    kind: Kind
    module: nn.Module | None
    reads: tuple[Read, ...]
    rows: int


@dataclass(eq=False)
class _Finder:
    """The state of one search.

    ``norms``: the norm that was folded behind a layer, and how it reads that. ``operations``: what
    can be expressed; ``reasons``: why the rest cannot. ``readers``: who reads each, through moves.
    """

    forward: fx.Graph
    root: nn.Module
    kind_of: KindOf
    T: int
    B: int
    norms: dict[fx.Node, tuple[str, Read]] = field(default_factory=dict)
    operations: dict[fx.Node, _Operation] = field(default_factory=dict)
    reasons: dict[fx.Node, str] = field(default_factory=dict)
    readers: dict[fx.Node, set[fx.Node]] = field(default_factory=dict)


def find_parts(
    graph: Graph, kind_of: KindOf, taps: dict[str, str]
) -> tuple[tuple[Part, ...], tuple[Left, ...]]:
    """The parts of the eval forward of ``graph``, and what else it computes, in order.

    ``taps``: for a node whose batch norm was folded into it, the node of the model as it was that
    has its value.
    """
    forward = graph.forwards["eval"]
    T, B = _steps(forward, graph.module), graph.inputs[0].shape[0]
    finder = _Finder(forward, graph.module, kind_of, T, B)
    for node in forward.nodes:
        read = read_of(node, graph.module, T, B) if node.name in taps else None
        if read is not None:
            finder.norms[read.source] = (taps[node.name], read)
    calls = _calls(forward)
    for node in forward.nodes:
        if _computes(node, finder.root):
            _look_at(finder, node, calls)
    _note_readers(finder)
    position = {node: i for i, node in enumerate(forward.nodes)}
    covered: set[fx.Node] = set()
    parts: list[tuple[int, Part]] = []
    for node in reversed(list(finder.operations)):
        if node in covered or finder.operations[node].module is None:
            continue
        region, part = _grown(finder, node, covered, position)
        if part is not None:
            covered |= region
            parts.append((min(position[n] for n in region), part))
    parts.sort(key=lambda pair: pair[0])
    return tuple(part for _, part in parts), tuple(_left(finder, covered))


def _steps(forward: fx.Graph, root: nn.Module) -> int:
    """T: the first axis of what multi-step neurons read; 1 without any."""
    for node in forward.nodes:
        if node.op == "call_module":
            module = root.get_submodule(str(node.target))
            shape = node.meta.get("shape")
            if shape and getattr(module, "step_mode", "") == "m" and hasattr(module, "v_threshold"):
                return int(shape[0])
    return 1


def _calls(forward: fx.Graph) -> dict[str, int]:
    counts: dict[str, int] = {}
    for node in forward.nodes:
        if node.op == "call_module":
            counts[str(node.target)] = counts.get(str(node.target), 0) + 1
    return counts


def _computes(node: fx.Node, root: nn.Module) -> bool:
    """Whether a node computes values, and not sizes, from others."""
    if node.op not in ("call_module", "call_function", "call_method"):
        return False
    return ("shape" in node.meta or "parts" in node.meta) and not is_move(node, root)


def _look_at(finder: _Finder, node: fx.Node, calls: dict[str, int]) -> None:
    """Note how a node can be expressed, or why it cannot."""
    found = features(node, finder.T, finder.B)
    module: nn.Module | None = None
    kind: Kind | str
    if node.op == "call_module":
        module = finder.root.get_submodule(str(node.target))
        kind = finder.kind_of(module, calls[str(node.target)])
    elif operation(node) in ADDITIONS:
        kind = Kind.EACH if _is_plain_sum(node) else "an addition of a constant, or of other shapes"
    else:
        kind = NOWHERE
    if hasattr(module, "v_threshold") and found is not None and node.meta["shape"][0] != finder.T:
        kind = f"it takes {node.meta['shape'][0]} time steps, where the others take {finder.T}"
    if not isinstance(kind, Kind):
        finder.reasons[node] = kind
        return
    arguments = [a for a in node.args if isinstance(a, fx.Node)]
    reads = [read_of(a, finder.root, finder.T, finder.B) for a in arguments]
    known = [read for read in reads if read is not None]
    if found is None or len(known) < len(reads) or not known:
        finder.reasons[node] = "it mixes images, or time steps"
        return
    if any(features(r.source, finder.T, finder.B) is None for r in known):
        finder.reasons[node] = "it mixes images, or time steps"
        return
    finder.operations[node] = _Operation(kind, module, tuple(known), found[0])


def _is_plain_sum(node: fx.Node) -> bool:
    """Of two different tensors of the same shape."""
    both = [a for a in node.args if isinstance(a, fx.Node)]
    shapes = {a.meta.get("shape") for a in both}
    plain = len(node.args) == 2 and not node.kwargs
    return plain and len(set(both)) == 2 and shapes == {node.meta["shape"]}


def _note_readers(finder: _Finder) -> None:
    """Which computing nodes read each, through moves; None stands for the output."""
    for node in finder.forward.nodes:
        if node.op != "output" and not _computes(node, finder.root):
            continue
        for argument in node.all_input_nodes:
            source = argument
            while is_move(source, finder.root) and source.all_input_nodes:
                source = source.all_input_nodes[0]
            finder.readers.setdefault(source, set()).add(node)


def _grown(
    finder: _Finder, output: fx.Node, covered: set[fx.Node], position: dict[fx.Node, int]
) -> tuple[set[fx.Node], Part | None]:
    """The longest part that ends in ``output``."""
    region = {output}
    best: tuple[set[fx.Node], Part | None] = (set(), None)
    while True:
        sources = {r.source for n in region for r in finder.operations[n].reads} - region
        if len(sources) == 1:
            part = _laid_out(finder, sorted(region, key=position.__getitem__), sources.pop())
            if part is not None:
                best = (set(region), part)
        candidates = [
            source
            for node in region
            for source in (r.source for r in finder.operations[node].reads)
            if source in finder.operations
            and source not in region | covered
            and finder.readers[source] <= region
        ]
        if not candidates:
            return best
        region.add(max(candidates, key=position.__getitem__))


def _laid_out(finder: _Finder, region: Sequence[fx.Node], source: fx.Node) -> Part | None:
    """The region as steps; None if some value would have to be moved otherwise than flattened."""
    places: dict[fx.Node, Place] = {}
    terms: dict[fx.Node, tuple[fx.Node, ...]] = {}
    numbers = {source: INPUT} | {node: i for i, node in enumerate(region)}
    steps = []
    if len({finder.operations[node].rows for node in region}) > 1:
        return None
    for node in region:
        it = finder.operations[node]
        wanted, flattened = _wanted(finder, it, places)
        if wanted is None:
            return None
        for read in it.reads:
            if read.source not in places:  # the input: its order is ours to choose
                places[read.source] = Place(wanted.shape, read.order[wanted.order])
        places[node] = _given(finder, node, it, wanted)
        plain = [
            terms.get(r.source, (r.source,)) if f == (0, 0) else (node,)
            for r, f in zip(it.reads, flattened, strict=True)
        ]
        if it.module is None:
            terms[node] = tuple(itertools.chain(*plain))
            if len(set(terms[node])) < len(terms[node]):
                return None  # an edge can be there once only
        name = str(node.target) if it.module is not None else node.name
        inputs = tuple(numbers[r.source] for r in it.reads)
        steps.append(Step(name, it.module, inputs, flattened, places[node].shape))
    name = next(step.name for step in steps if step.module is not None)
    ends = (_tap(finder, source, places[source]), _tap(finder, region[-1], places[region[-1]]))
    return Part(name, tuple(steps), *ends)


def _wanted(
    finder: _Finder, it: _Operation, places: dict[fx.Node, Place]
) -> tuple[Place | None, tuple[tuple[int, int], ...]]:
    """How an operation takes its inputs, and what has to be flattened for that."""
    found = features(it.reads[0].ends, finder.T, finder.B)
    assert found is not None
    seen = [seen_through(r, places[r.source]) if r.source in places else None for r in it.reads]
    own = as_they_are(found[1])
    if it.kind is Kind.ORDERED:
        options = [own]
    elif it.kind is Kind.LINEAR:
        options = [channels_first(found[1])]
    else:
        options = [place for place in seen if place is not None] or [own]
    for wanted in options:
        flattened = [(0, 0) if place is None else flattening(place, wanted) for place in seen]
        if None not in flattened:
            return wanted, tuple(f for f in flattened if f is not None)
    return None, ()


def _given(finder: _Finder, node: fx.Node, it: _Operation, wanted: Place) -> Place:
    """How an operation gives its output."""
    found = features(node, finder.T, finder.B)
    assert found is not None
    if it.kind is Kind.ORDERED:
        return as_they_are(found[1])
    if it.kind is Kind.LINEAR:
        return channels_first(found[1])
    return wanted


def _tap(finder: _Finder, node: fx.Node, place: Place) -> Tap:
    """Where the model as it was, its norms not folded, has the value of a node."""
    rows = features(node, finder.T, finder.B)
    assert rows is not None
    steps = rows[0] // finder.B
    if node in finder.norms:
        norm, read = finder.norms[node]
        return Tap(norm, seen_through(read, place), steps)
    return Tap(node.name, place, steps)


def _left(finder: _Finder, covered: Iterable[fx.Node]) -> Iterable[Left]:
    """What computes and is in no part."""
    done, last = set(covered), ""
    for node in finder.forward.nodes:
        if node.op == "call_module":
            last = str(node.target)
        if node in done or not _computes(node, finder.root) or _is_part_of_tuple(node):
            continue
        if node.op == "call_module":
            what = type(finder.root.get_submodule(last)).__name__
            where = last
        else:
            what = operation(node)
            where = f"after {last}" if last else "at the input"
        reason = finder.reasons.get(node, "a sum that no layer of a part reads")
        yield Left(where, what, reason)


def _is_part_of_tuple(node: fx.Node) -> bool:
    return any("parts" in source.meta for source in node.all_input_nodes)
