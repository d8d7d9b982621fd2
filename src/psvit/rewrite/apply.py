"""rewrite(graph, plan) -> nn.Module: the smaller model, and the oracle that it must equal."""

from __future__ import annotations

import numpy as np
import torch
from torch import fx, nn

from psvit.capture.copying import private_copy
from psvit.capture.replay import RecordedModel
from psvit.groups import dead_lanes, find_groups, removed_channels
from psvit.groups.shapes import BoolArray, kept_shape
from psvit.records import Graph, Labels, Mode, Plan
from psvit.rewrite.parameters import NORMS, slice_parameters, touched, update_norm
from psvit.rewrite.sizes import Resizer


def rewrite(graph: Graph, plan: Plan, *, locks: bool = True) -> nn.Module:
    """The model that computes what the original with its removed channels zeroed computes.

    A new module in eval mode, with the original's state-dict keys and smaller tensors; the
    graph and its module stay as they are. The batch size stays dynamic, and T where the model
    reads it from an attribute. An empty plan gives an equal model.
    ``locks`` False: the plan was made for other weights, which will take the place of these; what
    is locked by these alone (a threshold that is learnt) is no error.
    Raises PlanError if the plan does not fit the graph.
    """
    return RecordedModel(*resized(graph, plan, locks=locks)).eval()


def resized(
    graph: Graph, plan: Plan, *, locks: bool = True
) -> tuple[nn.Module, dict[Mode, fx.Graph]]:
    """What ``rewrite`` makes a module of: the smaller layers, and the forwards over them.

    Nodes of the forwards have the names of the original's. Raises as ``rewrite`` does.
    """
    removed = removed_channels(graph, plan, locks=locks)
    labels = find_groups(graph).labels
    dead = dead_lanes(labels, removed)
    root = private_copy(graph.module, but=touched(labels, dead))
    slice_parameters(root, labels, dead)
    forwards: dict[Mode, fx.Graph] = {
        mode: _resized(forward, labels, mode, dead) for mode, forward in graph.forwards.items()
    }
    for mode, forward in graph.forwards.items():
        _update_norms(root, forward, labels, mode, dead)
    return root, forwards


def _update_norms(
    root: nn.Module, forward: fx.Graph, labels: Labels, mode: Mode, dead: BoolArray
) -> None:
    """Norms hold their width as a number, which is all there is of it without parameters."""
    for node in forward.nodes:
        if node.op == "call_module" and "shape" in node.meta:
            norm, shape = root.get_submodule(node.target), node.meta["shape"]
            axis = 2 if getattr(norm, "step_mode", "s") == "m" else 1
            if isinstance(norm, NORMS) and len(shape) > axis:
                new = kept_shape(labels.fields[mode][node.name], shape, dead)
                update_norm(norm, shape[axis], new[axis])


def _resized(forward: fx.Graph, labels: Labels, mode: Mode, dead: BoolArray) -> fx.Graph:
    new = fx.Graph()
    resizer = Resizer(dict(labels.fields[mode]), dead, new, {})
    for node in forward.nodes:
        resizer.copies[node] = resizer.copy(node)
    return new


def zeroed(graph: Graph, plan: Plan) -> nn.Module:
    """The oracle: the original model with every slice of every removed channel set to 0.

    All parameters and buffers but running variances and learned divisors are zeroed. In float64
    this model and the rewritten one agree to rounding, in eval and in train mode.
    """
    labels = find_groups(graph).labels
    dead = dead_lanes(labels, removed_channels(graph, plan))
    root = private_copy(graph.module)
    tensors = dict(root.named_parameters()) | dict(root.named_buffers())
    for name, dims in touched(labels, dead).items():
        if name.endswith("running_var") or name in labels.divisors:
            continue
        data = tensors[name].data
        for dim, lanes in dims.items():
            index = torch.from_numpy(np.flatnonzero(dead[lanes]))
            if dim != "in":
                data.index_fill_(dim, index, 0)
                continue
            groups = root.get_submodule(name.rpartition(".")[0]).groups
            width = len(lanes) // groups  # type: ignore[operator]
            size = data.shape[0] // groups  # type: ignore[operator]
            for i in index.tolist():
                group, position = divmod(i, width)
                data[group * size : (group + 1) * size, position] = 0
    return root
