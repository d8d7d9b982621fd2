"""From a choice of channels to a plan and back, and the fingerprint that ties it to a model."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict

import numpy as np

from psvit.errors import PlanError
from psvit.groups.build import find_groups
from psvit.groups.shapes import check_rectangles, dead_lanes
from psvit.records import Graph, Groups, Plan, Removal, Source, Width


def make_plan(graph: Graph, groups: Groups, removal: Removal, source: Source | None = None) -> Plan:
    """The plan that removes these channels (group id -> indices into ``Group.channels``).

    Raises PlanError for a locked channel, unless it goes with its whole head, and for a choice
    that would leave slices of unequal width.
    """
    _check_removable(groups, removal)
    removed = {c for g, index in removal.items() for c in groups[g].channels[list(index)].tolist()}
    check_rectangles(groups.labels, removed)
    keep: dict[str, dict[str, tuple[int, ...]]] = defaultdict(dict)
    dead = dead_lanes(groups.labels, removed)
    for (tensor, dim), lanes in groups.labels.slots.items():
        gone = dead[lanes]
        if gone.any():
            keep[tensor][str(dim)] = tuple(np.flatnonzero(~gone).tolist())
    for alias, name in groups.labels.aliases.items():
        if name in keep:
            keep[alias] = dict(keep[name])
    widths = tuple(
        Width(g.name, g.role, g.size, g.size - len(set(removal.get(g.id, ())))) for g in groups
    )
    return Plan(dict(keep), widths, fingerprint(graph), graph.inputs, source)


def removed_channels(graph: Graph, plan: Plan, *, locks: bool = True) -> set[int]:
    """The channels that a plan removes. Raises PlanError if it does not fit this graph.

    ``locks``: whether one that is locked counts as an error. Some locks depend on the weights (a
    threshold that is learnt), and a plan may have been made for others than the graph has.
    """
    if plan.fingerprint != fingerprint(graph):
        raise PlanError(
            f"the plan belongs to another model (fingerprint {plan.fingerprint}, this model has "
            f"{fingerprint(graph)}): build the model with the arguments that the plan was made for"
        )
    groups = find_groups(graph)
    labels = groups.labels
    sizes = {(tensor, str(dim)): lanes for (tensor, dim), lanes in labels.slots.items()}
    removed: set[int] = set()
    for tensor, dims in plan.keep.items():
        for dim, kept in dims.items():
            lanes = sizes.get((labels.aliases.get(tensor, tensor), dim))
            if lanes is None:
                raise PlanError(f"the plan slices {tensor} on axis {dim}, which has no channels")
            if not kept or list(kept) != sorted(set(kept)) or kept[-1] >= len(lanes):
                raise PlanError(
                    f"the plan's kept indices of {tensor} on axis {dim} are not ascending numbers "
                    f"below {len(lanes)}"
                )
            gone = np.ones(len(lanes), dtype=bool)
            gone[list(kept)] = False
            removed |= set(labels.channel_of[lanes[gone]].tolist())
    _check_complete(groups, plan, removed)
    _check_removable(groups, _by_group(groups, removed), locks=locks)
    check_rectangles(groups.labels, removed)
    return removed


def removal_of(graph: Graph, plan: Plan) -> Removal:
    """The channels that a plan removes, by group. Raises PlanError as ``removed_channels``."""
    return _by_group(find_groups(graph), removed_channels(graph, plan))


def _by_group(groups: Groups, removed: set[int]) -> dict[int, list[int]]:
    where = {int(c): (g.id, i) for g in groups for i, c in enumerate(g.channels.tolist())}
    removal: dict[int, list[int]] = defaultdict(list)
    for c in sorted(removed):
        group, index = where[c]
        removal[group].append(index)
    return removal


def _check_complete(groups: Groups, plan: Plan, removed: set[int]) -> None:
    """Every slot of a removed channel must be cut, exactly."""
    dead = dead_lanes(groups.labels, removed)
    names: dict[str, list[str]] = defaultdict(list)
    for alias, name in groups.labels.aliases.items():
        names[name].append(alias)
    for (first, dim), lanes in groups.labels.slots.items():
        kept = tuple(np.flatnonzero(~dead[lanes]).tolist())
        for tensor in (first, *names[first]):
            stated = plan.keep.get(tensor, {}).get(str(dim), tuple(range(len(lanes))))
            if kept != stated:
                raise PlanError(
                    f"the plan is not consistent: {tensor} on axis {dim} keeps {len(stated)} of "
                    f"{len(lanes)} indices, but the channels removed elsewhere leave {len(kept)}"
                )


def _check_removable(groups: Groups, removal: Removal, *, locks: bool = True) -> None:
    for group_id, index in removal.items():
        group = groups[group_id]
        chosen = set(index)
        if not chosen:
            continue
        if min(chosen) < 0 or max(chosen) >= group.size:
            raise PlanError(f"group {group.name} has {group.size} channels, got {sorted(chosen)}")
        if len(chosen) == group.size:
            raise PlanError(f"no channel of group {group.name} would stay")
        if group.locked is None or not locks:
            continue
        heads = [h.channels for h in groups.heads if group_id in h.channels]
        whole = {i for h in heads if _goes(h, removal) for i in h[group_id]}
        if not chosen <= whole:
            raise PlanError(f"group {group.name} cannot be pruned: {group.locked}")


def _goes(head: Removal, removal: Removal) -> bool:
    return all(set(index) <= set(removal.get(g, ())) for g, index in head.items())


def fingerprint(graph: Graph) -> str:
    """A short hash of tensor names, shapes and the operations of the eval forward."""
    tensors = sorted(
        (name, list(t.shape))
        for name, t in [*graph.module.named_parameters(), *graph.module.named_buffers()]
    )
    forward = graph.forwards["eval"]
    operations = [f"{n.op} {getattr(n.target, '__name__', n.target)}" for n in forward.nodes]
    text = json.dumps([tensors, operations])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
