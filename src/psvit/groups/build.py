"""From lanes to groups: which channels occupy the same slots, and which counts must agree."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

import numpy as np
import torch

from psvit.groups.heads import FOLLOWS, SINGLE, find_heads
from psvit.groups.labelling import Labelling
from psvit.groups.names import name_of, role_of
from psvit.groups.propagate import propagate
from psvit.groups.shapes import rectangles
from psvit.records import Dim, Graph, Group, Groups, IntArray, Labels, Slot

SlotKey = tuple[str, Dim]


def find_groups(graph: Graph) -> Groups:
    """Find every group of channels of a graph, the locked ones and their reasons included.

    Each index of each labelled axis of a parameter or buffer belongs to exactly one group.
    """
    known = _FOUND.get(id(graph))
    if known is not None and known[0] is graph:
        return known[1]
    with torch.random.fork_rng(devices=[]):  # operations that draw are tried out too
        torch.manual_seed(0)
        groups = _build(propagate(graph))
    _FOUND.clear()  # the latest graph is the one that the next stage asks for
    _FOUND[id(graph)] = (graph, groups)
    return groups


_FOUND: dict[int, tuple[Graph, Groups]] = {}


def _build(state: Labelling) -> Groups:
    roots = {key: state.lanes.roots(lanes) for key, lanes in state.slots.items()}
    reasons = state.lanes.lock_reasons()
    follows = _roots_of(state, state.follows)
    members = _by_slots(roots, reasons, follows, len(state.lanes))
    parameters = {name for name, _ in state.module.named_parameters()}
    group_of: dict[int, int] = {}
    locks: list[str | None] = []
    for index, (key, channels) in enumerate(members):
        signature, reason = key
        if reason is None and not any(tensor in parameters for (tensor, _), _ in signature):
            reason = "held by constants only"
        locks.append(reason)
        group_of.update(dict.fromkeys(channels, index))
    cells_of, ties = _constraints(state, group_of, locks, len(members))
    items = []
    for index, (key, channels) in enumerate(members):
        cells = _cells(channels, cells_of)
        if locks[index] is None and len({len(c) for c in cells}) > 1:
            locks[index] = "its slices hold different numbers of channels"
        items.append((index, key[0], channels, cells))
    _lock_ties(locks, ties)
    tags = _tags(state)
    slots = _slots(roots, [channels for _, channels in members], len(state.lanes))
    found = []
    for index, signature, channels, cells in items:
        position = {c: i for i, c in enumerate(channels)}
        own = tuple(
            Slot(tensor, dim, slots[index][tensor, dim])
            for (tensor, dim), _ in sorted(signature, key=lambda s: (s[0][0], str(s[0][1])))
        )
        reason = locks[index]
        if reason is None and len(cells[0]) < 2:
            reason = SINGLE
        kinds = frozenset().union(*(tags[c] for c in channels))
        found.append(
            Group(
                id=index,
                name=name_of(own),
                role=role_of(own, kinds, state.module),
                channels=np.array(channels, dtype=np.int64),
                slots=own,
                cells=tuple(tuple(position[c] for c in cell) for cell in cells),
                tie=ties[index],
                locked=reason,
            )
        )
    labels = _labels(state)
    groups = tuple(found)
    return Groups(groups, find_heads(state, groups, labels), labels, tuple(state.unknown))


def _roots_of(state: Labelling, arrays: Iterable[IntArray]) -> set[int]:
    return {r for lanes in arrays for r in state.lanes.roots(lanes).tolist()}


Signature = frozenset[tuple[SlotKey, int]]
"""The slots that a channel occupies, each with the number of its positions there."""


def _by_slots(
    roots: dict[SlotKey, IntArray], reasons: dict[int, str], follows: set[int], lanes: int
) -> list[tuple[tuple[Signature, str | None], list[int]]]:
    """Channels with the same slots, as often each, and the same reason to stay.

    Each slot tells apart the channels that occupy it: those that were alike so far, and do so
    equally often, stay alike. ``history``: what made each kind of channels what it is.
    """
    kind = np.zeros(lanes, dtype=np.int64)
    history: list[tuple[int, tuple[SlotKey, int]]] = []
    for key, of_slot in roots.items():
        channels, counts = np.unique(of_slot, return_counts=True)
        most = int(counts.max(initial=0)) + 1
        pairs, inverse = np.unique(kind[channels] * most + counts, return_inverse=True)
        kind[channels] = len(history) + 1 + inverse
        history += [(pair // most, (key, pair % most)) for pair in pairs.tolist()]
    members: dict[tuple[int, str | None], list[int]] = {}
    occupied = np.flatnonzero(kind)
    for root, its_kind in zip(occupied.tolist(), kind[occupied].tolist(), strict=True):
        reason = reasons.get(root) or (FOLLOWS if root in follows else None)
        members.setdefault((its_kind, reason), []).append(root)
    return [
        ((_signature(history, its_kind), reason), channels)
        for (its_kind, reason), channels in members.items()
    ]


def _signature(history: list[tuple[int, tuple[SlotKey, int]]], kind: int) -> Signature:
    found = []
    while kind:
        kind, slot = history[kind - 1]
        found.append(slot)
    return frozenset(found)


def _constraints(
    state: Labelling, group_of: dict[int, int], locks: list[str | None], count: int
) -> tuple[dict[int, list[tuple[int, int]]], list[int]]:
    """Rows that must keep equally many channels: memberships per channel, and tied groups."""
    parent = list(range(count))

    def find(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    cells_of: dict[int, list[tuple[int, int]]] = defaultdict(list)
    seen: set[tuple[tuple[int, ...], bytes]] = set()
    groups = np.full(max(len(state.lanes), 1), -1, dtype=np.int64)
    groups[list(group_of)] = list(group_of.values())
    for matrix in state.rows:
        rows = state.lanes.roots(matrix)
        key = (rows.shape, rows.tobytes())
        if key in seen:
            continue
        seen.add(key)
        content = np.sort(groups[rows], axis=1)
        if (content != content[:1]).any():
            _differing_rows([Counter(row) for row in content.tolist()], locks, parent, find)
        for i, row in enumerate(rows.tolist()):
            for channel in set(row):
                cells_of[channel].append((len(seen), i))
    return cells_of, [find(i) for i in range(count)]


def _differing_rows(
    content: list[Counter[int]], locks: list[str | None], parent: list[int], find: object
) -> None:
    """Rows of different groups: tie groups that fill whole rows, lock what cannot be balanced."""
    assert callable(find)
    groups = sorted({g for row in content for g in row})
    whole = all(len(row) == 1 for row in content) and -1 not in groups
    if whole and all(locks[g] is None for g in groups):
        for g in groups[1:]:
            parent[find(g)] = find(groups[0])
        return
    for g in groups:
        if g >= 0 and locks[g] is None:
            locks[g] = "lies beside channels that stay, in slices of equal width"


def _cells(channels: list[int], cells_of: dict[int, list[tuple[int, int]]]) -> list[list[int]]:
    by_rows: dict[tuple[tuple[int, int], ...], list[int]] = defaultdict(list)
    for c in channels:
        by_rows[tuple(cells_of.get(c, ()))].append(c)
    return list(by_rows.values())


def _lock_ties(locks: list[str | None], ties: list[int]) -> None:
    reason_of = {ties[i]: reason for i, reason in enumerate(locks) if reason is not None}
    for i, tie in enumerate(ties):
        if locks[i] is None and tie in reason_of:
            locks[i] = f"tied to channels that stay: {reason_of[tie]}"


def _slots(
    roots: dict[SlotKey, IntArray], members: list[list[int]], lanes: int
) -> list[dict[SlotKey, IntArray]]:
    """For each group and slot: the positions of every channel on the axis, one row a channel."""
    group_of = np.full(lanes, -1, dtype=np.int64)
    position = np.zeros(lanes, dtype=np.int64)
    for index, channels in enumerate(members):
        group_of[channels] = index
        position[channels] = np.arange(len(channels))
    slots: list[dict[SlotKey, IntArray]] = [{} for _ in members]
    for key, of_slot in roots.items():
        groups = group_of[of_slot]
        order = np.lexsort((position[of_slot], groups))
        found, starts = np.unique(groups[order], return_index=True)
        for group, places in zip(found.tolist(), np.split(order, starts[1:]), strict=True):
            slots[group][key] = places.reshape(len(members[group]), -1).astype(np.int64)
    return slots


def _tags(state: Labelling) -> dict[int, set[str]]:
    tags: dict[int, set[str]] = defaultdict(set)
    for lanes, tag in state.tags:
        for root in np.unique(state.lanes.roots(lanes)).tolist():
            tags[root].add(tag)
    return tags


def _labels(state: Labelling) -> Labels:
    every = np.arange(len(state.lanes), dtype=np.int64)
    channel_of = state.lanes.roots(every) if len(every) else every
    nodes = [of_node for fields in state.fields.values() for of_node in fields.values()]
    return Labels(
        fields=state.fields,
        channel_of=channel_of,
        members=dict(state.members),
        slots=dict(state.slots),
        rectangles=rectangles(nodes, channel_of),
        divisors=frozenset(state.divisors),
        aliases=state.aliases,
    )
