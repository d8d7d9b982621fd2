"""Run a recorded forward node by node, to look at values on their way; nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx

from psvit.errors import DataError, ModelError
from psvit.neurons import one_pass, reset_state
from psvit.records import Graph


class Watcher(fx.Interpreter):
    """Runs the eval forward of a graph; what sees its values overrides ``run_node``."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph.module, graph=graph.forwards["eval"])
        self.extra_traceback = False

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        """As fx does, which does not know the empty name, the model's own."""
        return self.module.get_submodule(target)(*args, **kwargs)


def run_batch(graph: Graph, watcher: Watcher, inputs: Sequence[torch.Tensor]) -> Any:
    """The output for one batch, from fresh neurons. Raises ModelError if the model fails on it."""
    reset_state(graph.module)
    try:
        with one_pass(graph.module):
            return watcher.run(*inputs)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        shapes = ", ".join(str(list(x.shape)) for x in inputs)
        fixed = f" (recorded as fixed: {'; '.join(graph.fixed)})"
        raise ModelError(
            f"the recorded model fails on a batch of shape {shapes}: "
            f"{(str(error).strip() or type(error).__name__).splitlines()[0]}"
            f"{fixed if graph.fixed else ''}"
        ) from error


def inputs_in(batch: Any, count: int) -> list[torch.Tensor]:
    """The ``count`` inputs that a batch starts with: a tensor, or a sequence with tensors in front.

    ``(images, labels)`` is such a sequence for a model of one input. Raises DataError for others.
    """
    items = [batch] if isinstance(batch, torch.Tensor) else batch
    tensors = list(items)[:count] if isinstance(items, list | tuple) else []
    if len(tensors) < count or not all(isinstance(x, torch.Tensor) and x.ndim for x in tensors):
        raise DataError(
            f"the data yield a {type(batch).__name__}, expected images, or (images, labels): "
            f"{count} tensor{'s' * (count > 1)} in front"
        )
    return tensors


@contextmanager
def settled(graph: Graph, device: torch.device, seed: int) -> Iterator[None]:
    """Eval mode on ``device`` without gradients; afterwards everything as it was.

    That is modes, buffers, device, neuron state and the random state, which is ``seed`` inside.
    """
    module = graph.module
    modes = {one: one.training for one in module.modules()}
    home = next((p.device for p in module.parameters()), device)
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            torch.manual_seed(seed)
            module.to(device).eval()
            yield
    finally:
        reset_state(module)
        module.to(home)
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                if name in buffers:
                    buffer.copy_(buffers[name])
        for one, mode in modes.items():
            one.training = mode
