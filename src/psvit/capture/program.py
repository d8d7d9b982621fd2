"""A recorded forward that can be run from any node on.

A *position* is the index of a node in the recorded order. What is *live* at a position is every
value that was computed before it and is read at it or later; the inputs come before all nodes.
Running on from the live values gives what running everything gives, if

- no neuron is in the middle of its calls there: ``safe_start`` moves back to where none is, and
- nothing later writes into a live value: else ``writes_into_live``, and they are copied first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Protocol

import torch
from torch import fx, nn

from psvit.neurons import one_pass, reset_state

Values = dict[fx.Node, Any]
"""What nodes evaluated to."""


class Observer(Protocol):
    """Sees what goes into every neuron layer and what comes out of it."""

    def takes(self, name: str, x: Any) -> None: ...

    def gives(self, name: str, y: Any) -> None: ...


@dataclass(frozen=True, eq=False)
class Program:
    """A module tree and the order in which its recorded forward runs over it.

    ``modules``: of the nodes that call one. ``frees[i]``: the values that nothing reads after
    position i. ``written[i]``: the earliest position of a value that the node at i writes into,
    -1 for an input, the number of nodes for none. ``scratch``: parameters and buffers that the
    forward itself writes into, so that each run needs copies of its own.
    """

    root: nn.Module
    nodes: tuple[fx.Node, ...]
    modules: Mapping[fx.Node, nn.Module]
    frees: tuple[tuple[fx.Node, ...], ...]
    written: tuple[int, ...] = ()
    scratch: frozenset[fx.Node] = frozenset()

    @property
    def neurons(self) -> tuple[str, ...]:
        """The names of the neuron layers that the forward calls, each once."""
        return tuple(dict.fromkeys(str(n.target) for n, m in self.modules.items() if _fires(m)))


def prepare_program(
    root: nn.Module, forward: fx.Graph, inputs: tuple[torch.Tensor, ...]
) -> Program:
    """Read a forward, and run it once on ``inputs`` to see which operations write in place.

    The versions of tensors tell that, whatever an operation is called.
    """
    nodes = tuple(forward.nodes)
    modules = {n: root.get_submodule(str(n.target)) for n in nodes if n.op == "call_module"}
    held = frozenset(n for n in nodes if n.op == "get_attr")
    program = Program(root, nodes, modules, _frees(nodes), scratch=held)
    written, scratch = _find_writes(program, tuple(x.clone() for x in inputs))
    return replace(program, written=written, scratch=scratch)


def inputs_of(program: Program, inputs: tuple[torch.Tensor, ...]) -> Values:
    """What is live at position 0."""
    places = [node for node in program.nodes if node.op == "placeholder"]
    return dict(zip(places, inputs, strict=True))


def run(
    program: Program, values: Values, start: int, stop: int, observer: Observer | None = None
) -> Values:
    """Run the nodes from ``start`` up to ``stop``, excluded, from resting neurons.

    ``values``: what is live at ``start``; it is used up. Returns what is live at ``stop``, or,
    where that is the end, the output by the last node.
    """
    with one_pass(program.root):
        for _ in walk(program, values, start, stop, observer):
            pass
    return values


def walk(
    program: Program, values: Values, start: int, stop: int, observer: Observer | None = None
) -> Iterator[fx.Node]:
    """As ``run``, stopping before each node, when ``values`` holds what it reads."""
    reset_state(program.root)
    for position in range(start, stop):
        yield program.nodes[position]
        _evaluate(program, program.nodes[position], values, observer)
        for done in program.frees[position]:
            values.pop(done, None)


def first_reader(program: Program, tensors: Iterable[torch.Tensor]) -> int:
    """Position of the first node that reads a tensor or what shares its memory.

    That of the output where none does.
    """
    changed = {_memory(t) for t in tensors}
    for position, node in enumerate(program.nodes):
        if node.op == "call_module":
            module = program.modules[node]
            read = [*module.parameters(), *module.buffers()]
        elif node.op == "get_attr":
            value = _attribute(program, node)
            read = [value] if isinstance(value, torch.Tensor) else []
        else:
            continue
        if any(_memory(t) in changed for t in read):
            return position
    return len(program.nodes) - 1


def safe_start(program: Program, position: int) -> int:
    """The last position up to here at which no module with state is between two of its calls."""
    spans = _spans(program)
    while True:
        inside = [first for first, last in spans if first < position <= last]
        if not inside:
            return position
        position = min(inside)


def writes_into_live(program: Program, position: int) -> bool:
    """Whether running on from here would change a value that was computed before."""
    return any(earliest < position for earliest in program.written[position:])


def _evaluate(program: Program, node: fx.Node, values: Values, observer: Observer | None) -> None:
    if node.op == "placeholder":
        return
    if node.op == "get_attr":
        value = _attribute(program, node)
        own = node in program.scratch and isinstance(value, torch.Tensor)
        values[node] = value.clone() if own else value
        return
    args = fx.node.map_arg(node.args, values.__getitem__)
    kwargs = fx.node.map_arg(node.kwargs, values.__getitem__)
    if node.op == "output":
        values[node] = args[0]
    elif node.op == "call_method":
        values[node] = getattr(args[0], str(node.target))(*args[1:], **kwargs)
    elif node.op == "call_function":
        values[node] = node.target(*args, **kwargs)  # type: ignore[operator]
    else:
        module = program.modules[node]
        watched = observer is not None and _fires(module)
        if observer is not None and watched:
            observer.takes(str(node.target), next(iter((*args, *kwargs.values()))))
        values[node] = module(*args, **kwargs)
        if observer is not None and watched:
            observer.gives(str(node.target), values[node])


def _attribute(program: Program, node: fx.Node) -> Any:
    return reduce(getattr, str(node.target).split("."), program.root)


def _fires(module: nn.Module) -> bool:
    return hasattr(module, "v_threshold")


def _spans(program: Program) -> list[tuple[int, int]]:
    """First and last call of every module that remembers something between its calls."""
    calls: dict[int, list[int]] = {}
    for position, node in enumerate(program.nodes):
        module = program.modules.get(node)
        if module is not None:
            for part in module.modules():
                if callable(getattr(part, "reset", None)):
                    calls.setdefault(id(part), []).append(position)
    return [(at[0], at[-1]) for at in calls.values()]


def _frees(nodes: tuple[fx.Node, ...]) -> tuple[tuple[fx.Node, ...], ...]:
    position = {node: i for i, node in enumerate(nodes)}
    frees: list[list[fx.Node]] = [[] for _ in nodes]
    for node in nodes:
        if node.op != "output":
            last = max((position[user] for user in node.users), default=position[node])
            frees[last].append(node)
    return tuple(tuple(free) for free in frees)


def _find_writes(
    program: Program, inputs: tuple[torch.Tensor, ...]
) -> tuple[tuple[int, ...], frozenset[fx.Node]]:
    """``Program.written`` and ``Program.scratch``, by running the forward once."""
    index = {n: -1 if n.op == "placeholder" else i for i, n in enumerate(program.nodes)}
    values, written = inputs_of(program, inputs), []
    scratch: set[fx.Node] = set()
    reset_state(program.root)
    for position, node in enumerate(program.nodes):
        before = {n: _versions(value) for n, value in values.items()}
        _evaluate(program, node, values, None)
        changed = [n for n, versions in before.items() if _versions(values[n]) != versions]
        scratch |= {n for n in changed if n.op == "get_attr"}
        written.append(min((index[n] for n in changed), default=len(program.nodes)))
        for done in program.frees[position]:
            values.pop(done, None)
    reset_state(program.root)
    return tuple(written), frozenset(scratch)


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """The tensors of a value, which may be nested in tuples, lists and dicts."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)


def _versions(value: Any) -> list[int]:
    return [tensor._version for tensor in tensors_in(value)]


def _memory(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
