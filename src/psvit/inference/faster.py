"""From a model to the same model for inference: norms folded, plain neurons computed in one go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import nn

from psvit.capture import RecordedModel, capture
from psvit.inference.fold import fold
from psvit.inference.layout import channels_last
from psvit.inference.moves import drop_round_trips
from psvit.neurons import FusedNeuron, dynamics_of
from psvit.records import Graph


def faster(
    model: nn.Module, example_inputs: torch.Tensor | Sequence[torch.Tensor], *, folded: bool = True
) -> nn.Module:
    """The same outputs in less time: for inference in eval mode, from neurons at rest.

    Batch norms are folded into the layers before them (``folded``), and IF and LIF neurons of
    SpikingJelly that are plainly configured, run all T steps and are called once a forward, are
    computed in one pass over memory (``psvit.neurons``). On a CPU images lie channels last, and 1x1
    convolutions are products of matrices (``psvit.inference.layout``). The spikes of a neuron are
    bit-equal; folding and layout round elsewhere, so that in float32 an input on a threshold may
    flip.

    ``model`` is not touched. Module names stay. Neurons forget their state after each forward.
    ``example_inputs``: as for ``psvit.capture``, on the device of the model.
    Raises ModelError if the model fails on them, CaptureError if it cannot be recorded; the
    result raises ModelError in train mode.
    """
    graph = capture(model, example_inputs)
    return fastest(for_inference(graph, folded=folded), example_inputs)


def fastest(graph: Graph, example_inputs: torch.Tensor | Sequence[torch.Tensor]) -> nn.Module:
    """The module that runs what ``for_inference`` gave, laid out for where it runs."""
    model = recorded(graph)
    inputs = [example_inputs] if isinstance(example_inputs, torch.Tensor) else [*example_inputs]
    on_cpu = all(x.device.type == "cpu" for x in inputs)
    return channels_last(model, inputs) if on_cpu else model


def fold_batchnorm(
    model: nn.Module, example_inputs: torch.Tensor | Sequence[torch.Tensor]
) -> nn.Module:
    """The model with each batch norm that follows a layer folded into it, for eval mode.

    Equal to the original in float64 to rounding. Folded norms are identities under their names;
    the layer before gets their scale, and a bias. Norms that follow anything else stay. Raises as
    ``faster`` does.
    """
    return recorded(folded(capture(model, example_inputs)))


def folded(graph: Graph) -> Graph:
    """The eval forward of ``graph``, its norms folded in place, and nothing else."""
    graph = _eval_only(graph)
    fold(graph)
    return graph


def for_inference(graph: Graph, *, folded: bool = True) -> Graph:
    """The eval forward of ``graph``, changed in place as ``faster`` says, and nothing else."""
    graph = _eval_only(graph)
    if folded:
        fold(graph)
        drop_round_trips(graph.forwards["eval"])
    _fuse_neurons(graph)
    return graph


def _eval_only(graph: Graph) -> Graph:
    module = graph.module.eval().requires_grad_(False)
    return Graph(module, {"eval": graph.forwards["eval"]}, graph.inputs, graph.fixed)


def recorded(graph: Graph) -> nn.Module:
    """The module that runs the eval forward of ``graph``, in eval mode."""
    return RecordedModel(graph.module, graph.forwards).eval()


def _fuse_neurons(graph: Graph) -> None:
    """Put a FusedNeuron in the place of each plain neuron that is called once."""
    calls = Counter(n.target for n in graph.forwards["eval"].nodes if n.op == "call_module")
    modules = {name: graph.module.get_submodule(str(name)) for name in calls}
    times: Counter[int] = Counter()
    for name, count in calls.items():
        times[id(modules[name])] += count
    for name, module in modules.items():
        dynamics = dynamics_of(module) if name and times[id(module)] == 1 else None
        if dynamics is not None:
            graph.module.set_submodule(str(name), FusedNeuron(dynamics).eval())
