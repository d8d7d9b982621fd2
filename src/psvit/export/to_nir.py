"""NIR, the format of neuromorphic simulators and chips: SpikingJelly writes it and reads it back.

NIR (Pedersen et al., "Neuromorphic intermediate representation", Nature Communications 2024) is a
graph of layers and sums, run once a time step. It has no products of two activations, no maximum
pooling and no norms, so that a transformer is never one graph: each part of it is.

    psvit, SpikingJelly                              NIR, forward Euler with step dt
    h = v + (x - (v - r)) / tau                      tau' = tau dt, R = 1, v_leak = r
    h = v + x - (v - r) / tau                        tau' = tau dt, R = tau, v_leak = r
    h = v + x                                        IF, R = 1 / dt
    spike if h >= threshold                          spike if h > threshold
    v = r after a spike                              v = v_reset = r
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from psvit.errors import CheckpointError, MissingExtra, ModelError
from psvit.export.lower import first_line
from psvit.export.parts import INPUT, Kind, Part, Step
from psvit.neurons import dynamics_of

try:
    import nir
    import nirtorch  # noqa: F401 (SpikingJelly needs it)
    from spikingjelly.activation_based import layer, neuron
    from spikingjelly.activation_based.nir_exchange import export_to_nir, import_from_nir
except ImportError as error:
    raise MissingExtra(
        f"NIR needs nir, nirtorch and SpikingJelly 2 ({error}): "
        "install them with `pip install 'psvit[nir]'`"
    ) from error

DT = 1e-4
"""Seconds of a time step: what SpikingJelly, and most who read NIR, take if nothing is said."""

Run = Callable[[Tensor], Tensor]
"""``[T, B, *input shape]`` -> ``[T, B, *output shape]``, neurons at rest."""


def kind_of(module: nn.Module, calls: int) -> Kind | str:
    """How NIR takes a layer; why it cannot, in words."""
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        if module.groups != 1:
            return f"{module.groups} groups, which SpikingJelly's exchange refuses"
        if module.padding_mode != "zeros":
            return f"it pads with {module.padding_mode}"
        return "its padding is given in words" if isinstance(module.padding, str) else Kind.ORDERED
    if isinstance(module, nn.Linear):
        return Kind.LINEAR
    if isinstance(module, nn.AvgPool2d):
        odd = module.ceil_mode or module.divisor_override or not module.count_include_pad
        return "it rounds its size up, or divides by its own number" if odd else Kind.ORDERED
    if hasattr(module, "v_threshold"):
        return _kind_of_neuron(module, calls)
    return "NIR has no such node"


def _kind_of_neuron(module: Any, calls: int) -> Kind | str:
    if calls > 1 or getattr(module, "step_mode", "s") != "m":
        return "it is called step by step, with its state outside the graph"
    if getattr(module, "v_reset", None) is None:
        return "its reset is soft, which NIR does not distinguish"
    made = _neuron(module)
    if made is None:
        return "it is no IF, LIF or parametric LIF neuron"
    if getattr(made, "tau", 2.0) <= 1:
        return f"its tau is {made.tau}, and SpikingJelly reads only what is above 1"
    return Kind.EACH


def _neuron(module: Any) -> Any:
    """SpikingJelly's IF or LIF that fires like it; None if there is none."""
    settings: dict[str, Any] = {"v_threshold": float(module.v_threshold), "step_mode": "m"}
    if type(module) is neuron.ParametricLIFNode:
        tau = 1 / float(module.w.sigmoid())
        kept = {"v_reset": module.v_reset, "decay_input": module.decay_input}
        return neuron.LIFNode(tau=tau, **kept, **settings)
    found = dynamics_of(module)
    if found is None or found.reset is None:
        return None
    if found.tau is None:
        return neuron.IFNode(v_reset=found.reset, **settings)
    return neuron.LIFNode(
        tau=found.tau, decay_input=found.decay_input, v_reset=found.reset, **settings
    )


def write(parts: Mapping[str, Part], path: Path) -> dict[str, Any]:
    """One graph that holds each part as a graph of its name, with an input and an output.

    Raises ModelError if the exchange refuses a part.
    """
    nodes: dict[str, Any] = {}
    edges: list[tuple[str, str]] = []
    for name, part in parts.items():
        graph = _graph_of(name, part)
        ends = (f"{name}.input", f"{name}.output")
        nodes |= {
            ends[0]: nir.Input(next(iter(graph.inputs.values())).input_type["input"]),
            name: graph,
            ends[1]: nir.Output(next(iter(graph.outputs.values())).output_type["output"]),
        }
        edges += [(ends[0], name), (name, ends[1])]
    nir.write(path, nir.NIRGraph(nodes, edges, metadata={"dt": DT}))
    return {
        "dt": DT,
        "nir": nir.version,
        "nodes": {name: _counted(nodes[name]) for name in parts},
    }


def read(path: Path) -> dict[str, Run]:
    """What runs each part of a file: SpikingJelly's modules, rebuilt. Raises CheckpointError."""
    try:
        graph = nir.read(path)
        found = {k: v for k, v in graph.nodes.items() if isinstance(v, nir.NIRGraph)}
        return {name: _running(part) for name, part in found.items()}
    except Exception as error:  # h5py, nir and the importer raise whatever the damage trips over
        raise CheckpointError(
            f"{path} is no NIR graph of parts, or is damaged "
            f"({type(error).__name__}: {first_line(error)})"
        ) from error


def _graph_of(name: str, part: Part) -> Any:
    shape = (2, 1, *part.input.place.shape)
    try:
        return export_to_nir(_module_of(part), torch.zeros(shape), dt=DT)
    except (NotImplementedError, ValueError, TypeError, AssertionError) as error:
        raise ModelError(
            f"SpikingJelly's exchange cannot write {name} as NIR ({first_line(error)})"
        ) from error


def _module_of(part: Part) -> nn.Module:
    """The part as SpikingJelly's multi-step layers: ``[T, B, *S]`` in and out."""
    root, graph = nn.Module(), fx.Graph()
    values = {INPUT: graph.placeholder("input")}
    for number, step in enumerate(part.steps):
        name = step.name.replace(".", "_")
        arguments: list[fx.Node] = []
        for which, axes in zip(step.inputs, step.flattened, strict=True):
            value = values[which]
            if axes != (0, 0):
                flat = f"{name}_flat{len(arguments)}"
                # Counted from the features of an image, which come after T and B.
                root.add_module(flat, layer.Flatten(axes[0] + 1, axes[1] + 1, step_mode="m"))
                value = graph.call_module(flat, (value,))
            arguments.append(value)
        if step.module is None:
            values[number] = graph.call_function(operator.add, tuple(arguments))
        else:
            root.add_module(name, _layer_of(step))
            values[number] = graph.call_module(name, tuple(arguments))
    graph.output(values[len(part.steps) - 1])
    return fx.GraphModule(root, graph)


def _layer_of(step: Step) -> Any:
    """The layer of a step, of SpikingJelly's kind, its weights shared."""
    module = step.module
    if isinstance(module, nn.Linear):
        made = _linear(module, tokens=len(step.shape) > 1)
    elif isinstance(module, nn.AvgPool2d):
        made = layer.AvgPool2d(module.kernel_size, module.stride, module.padding, step_mode="m")
    elif isinstance(module, nn.Conv1d | nn.Conv2d):
        kind = layer.Conv1d if isinstance(module, nn.Conv1d) else layer.Conv2d
        sizes = (module.kernel_size, module.stride, module.padding, module.dilation)
        made = kind(module.in_channels, module.out_channels, *sizes, step_mode="m")
        made.weight, made.bias = module.weight, module.bias
    else:
        made = _neuron(module)
    return made


def _linear(module: nn.Linear, *, tokens: bool) -> Any:
    """For one vector a linear layer, for one for each token a convolution of width 1."""
    if not tokens:
        made = layer.Linear(module.in_features, module.out_features, step_mode="m")
        made.weight, made.bias = module.weight, module.bias
        return made
    made = layer.Conv1d(module.in_features, module.out_features, 1, step_mode="m")
    made.weight, made.bias = nn.Parameter(module.weight.detach().unsqueeze(-1)), module.bias
    return made


def _running(graph: Any) -> Run:
    module = import_from_nir(graph, dt=DT, step_mode="m")

    def run(x: Tensor) -> Tensor:
        with torch.no_grad():
            *outputs, _ = module(x)
        # Edges that end in one node are summed; nirtorch gives what ends in the output singly.
        total: Tensor = sum(outputs[1:], outputs[0])
        return total

    return run


def _counted(graph: Any) -> dict[str, int]:
    kinds = Counter(type(node).__name__ for node in graph.nodes.values())
    return {kind: n for kind, n in sorted(kinds.items()) if kind not in ("Input", "Output")}
