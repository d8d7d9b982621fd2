"""Spread labels through both forwards of a graph. Nothing is run: shapes are known."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from psvit.groups.call import Call, is_tensor
from psvit.groups.divisors import divisors_of
from psvit.groups.labelling import Labelling
from psvit.groups.rules import RULES, unknown
from psvit.groups.rules_layer import layer
from psvit.groups.trials import computed, stored
from psvit.records import Field, Graph


def propagate(graph: Graph) -> Labelling:
    """Label every tensor of the eval and of the train forward, over one set of lanes."""
    state = Labelling(graph.module, aliases=_aliases(graph.module))
    tensors = dict(graph.module.named_parameters()) | dict(graph.module.named_buffers())
    for forward in graph.forwards.values():
        state.divisors |= divisors_of(forward)
    for mode, forward in graph.forwards.items():
        state.mode = mode
        state.constants = {}
        fields: dict[str, Any] = {}
        state.fields[mode] = fields
        for node in forward.nodes:
            fields[node.name] = _label(state, node, tensors)
    return state


def _aliases(module: nn.Module) -> dict[str, str]:
    """Further name -> first name, of parameters and buffers that are shared."""
    first: dict[int, str] = {}
    aliases = {}
    for name, tensor in [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]:
        known = first.setdefault(id(tensor), name)
        if known != name:
            aliases[name] = known
    return aliases


def _label(state: Labelling, node: fx.Node, tensors: dict[str, torch.Tensor]) -> Any:
    if node.op == "placeholder":
        return []
    if node.op == "output":
        for source in node.all_input_nodes:
            state.lock(state.of(source), "the model's output")
        return []
    if node.op == "get_attr":
        name = str(node.target)
        if name not in tensors:
            return []
        _note(state, node, stored(node, tensors[name]))
        return state.parameter_fields(name, tuple(tensors[name].shape))
    if not _involves_tensors(node):
        return []
    call = Call.of(state, node)
    rule = layer if node.op == "call_module" else RULES.get(call.name, unknown)
    _note(state, node, computed(call, state.constants))
    try:
        return _checked(rule(call), node)
    except (ValueError, IndexError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        # an argument form that a rule does not know must never break a model: lock and report
        for source in call.tensors:
            state.lock(state.of(source), f"{call.name} in a form that psvit has no rule for")
        state.unknown.append(f"{call.name} ({type(error).__name__}: {error})")
        return [[] for _ in call.parts] if call.parts else []


def _note(state: Labelling, node: fx.Node, value: torch.Tensor | None) -> None:
    if value is not None:
        state.constants[node.name] = value


def _involves_tensors(node: fx.Node) -> bool:
    if node.target is getattr:
        return is_tensor(node) and len(node.args) > 1
    return any(is_tensor(n) or "parts" in n.meta for n in node.all_input_nodes) or is_tensor(node)


def _checked(fields: Any, node: fx.Node) -> Any:
    """Fields must have the rank of their tensor: a wrong rule must not pass unnoticed."""
    shape = node.meta.get("shape")
    if shape is not None and fields:
        for f in fields:
            if isinstance(f, Field) and f.lanes.ndim != len(shape):
                raise ValueError(f"a field of rank {f.lanes.ndim} for a tensor of shape {shape}")
    return fields
