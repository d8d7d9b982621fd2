"""Whether logits of a file differ because a spike flipped at its threshold, or for another reason.

A runtime rounds its sums otherwise than PyTorch does. A membrane potential that lies that close to
its threshold fires in one and not in the other, and changes logits by far more than rounding does.
So a file beside the first is written of the same program, whose outputs are what goes into every
neuron layer and what comes out of it. On an image whose logits differ, the first layer whose spikes
differ tells: if its inputs still agree, up to the time step at which they do, a spike flipped.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from psvit.errors import PsvitError
from psvit.export.compare import for_now_in_eval
from psvit.export.lower import trace
from psvit.export.records import TOLERANCE, Comparison, Format
from psvit.inference import recorded
from psvit.neurons import reset_state
from psvit.records import Graph

Call = tuple[torch.Tensor, torch.Tensor]
"""What went into a neuron layer, and its spikes."""


def follow(
    model: nn.Module,
    graph: Graph,
    format: Format,
    example: torch.Tensor,
    images: torch.Tensor,
    found: Comparison,
) -> Comparison:
    """``found`` with ``followed`` and ``flipped`` of ``images``, those whose logits differ.

    ``graph``: what the file was lowered from, which is left as it was. Where its neurons are not
    layers of ``model``, or the format cannot give so much, no image is followed.
    """
    names, seen = _of_neurons(graph)
    if not names or not len(images):
        return found
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"neurons{format.suffix}"
        try:
            format.write(trace(recorded(seen), example, format.largest), path)
            run = format.read(path)
            flips = [_is_flip(calls, run(x)) for x, calls in _own_calls(model, names, images)]
        except (PsvitError, RuntimeError, ValueError, LookupError, OSError, MemoryError):
            return found  # what was written and compared before is no worse for it
    return replace(found, followed=len(flips), flipped=sum(flips))


def _of_neurons(graph: Graph) -> tuple[list[str], Graph]:
    """The neuron layers in the order of their calls, and the forward that gives all they take and
    give, as one tensor ``[1, *]`` for any reader of one output."""
    forward, root = fx.Graph(), graph.module
    copies: dict[fx.Node, fx.Node] = {}
    forward.graph_copy(graph.forwards["eval"], copies)
    calls = [node for node in graph.forwards["eval"].nodes if _is_neuron(root, node)]
    values = [copies[value] for node in calls for value in (node.all_input_nodes[0], node)]
    flat = [forward.call_method("flatten", (value,)) for value in values]
    forward.output(forward.call_method("unsqueeze", (forward.call_function(torch.cat, (flat,)), 0)))
    names = [str(node.target) for node in calls]
    return names, replace(graph, forwards={"eval": forward})


def _is_neuron(root: nn.Module, node: fx.Node) -> bool:
    return node.op == "call_module" and hasattr(root.get_submodule(str(node.target)), "v_threshold")


@dataclass
class _Watch:
    """The calls of the neuron layers of a model."""

    calls: dict[str, list[Call]] = field(default_factory=dict)

    @contextmanager
    def of(self, model: nn.Module, names: Sequence[str]) -> Iterator[None]:
        handles = []
        for name in dict.fromkeys(names):

            def keep(module: nn.Module, args: Any, kwargs: Any, out: Any, name: str = name) -> None:
                taken = next(iter((*args, *kwargs.values())))
                self.calls.setdefault(name, []).append((taken.clone(), out.clone()))

            layer = model.get_submodule(name)
            handles.append(layer.register_forward_hook(keep, with_kwargs=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _own_calls(
    model: nn.Module, names: Sequence[str], images: torch.Tensor
) -> Iterator[tuple[torch.Tensor, list[Call]]]:
    """Each image, alone, and the calls of the model's own neurons, in the order of ``names``."""
    for image in images:
        watch = _Watch()
        reset_state(model)
        with for_now_in_eval(model), watch.of(model, names):
            model(image[None])
        yield image[None], [watch.calls[name].pop(0) for name in names]


def _is_flip(own: Sequence[Call], values: torch.Tensor) -> bool:
    """Whether the inputs of the first layer whose spikes differ agree. ``values``: ``[1, *]``."""
    sizes = [tensor.numel() for call in own for tensor in call]
    parts = iter(torch.split(values.flatten(), sizes))
    for taken, given in own:
        other_taken, other_given = (next(parts).view(x.shape) for x in (taken, given))
        differs = ~((given - other_given).abs() <= TOLERANCE)
        if not differs.any():
            continue
        step = int(differs.flatten(1).any(1).nonzero()[0]) + 1
        gap = (taken[:step] - other_taken[:step]).abs().max()
        return bool(gap <= TOLERANCE * max(1.0, float(taken[:step].abs().max())))
    return False
