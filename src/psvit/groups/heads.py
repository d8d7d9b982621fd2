"""Attention heads: slices that some product joins, so that they can only go together."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from psvit.errors import PlanError
from psvit.groups.labelling import Labelling
from psvit.groups.shapes import check_rectangles
from psvit.records import Group, Head, IntArray, Labels

FOLLOWS = "follows the heads: goes with a whole head only"
SINGLE = "its slices hold a single channel each"


def find_heads(state: Labelling, groups: tuple[Group, ...], labels: Labels) -> tuple[Head, ...]:
    """Every set of channels that can be removed as one head.

    Left out: heads of which a channel is locked, and heads that a fixed axis counts on.
    """
    where = {int(c): (g.id, i) for g in groups for i, c in enumerate(g.channels.tolist())}
    lock_of = {g.id: g.locked for g in groups}
    removable = {None, SINGLE, FOLLOWS}
    pinned = [frozenset(state.lanes.roots(p).tolist()) for p in state.pinned]
    heads = []
    for channels in _components(state):
        if not channels or any(c not in where for c in channels):
            continue
        if any(lock_of[where[c][0]] not in removable for c in channels):
            continue
        if any(p <= channels for p in pinned):
            continue
        by_group: dict[int, list[int]] = defaultdict(list)
        for c in sorted(channels):
            by_group[where[c][0]].append(where[c][1])
        if any(len(index) == groups[g].size for g, index in by_group.items()):
            continue  # the only head there is
        if _leaves_rectangles(labels, set(channels)):
            heads.append({g: tuple(sorted(i)) for g, i in by_group.items()})
    counts: dict[str, int] = defaultdict(int)
    named = []
    for head in heads:
        name = groups[min(head)].name
        named.append(Head(f"{name} head {counts[name]}", head))
        counts[name] += 1
    return tuple(named)


def _leaves_rectangles(labels: Labels, channels: set[int]) -> bool:
    try:
        check_rectangles(labels, channels)
    except PlanError:
        return False
    return True


def _components(state: Labelling) -> list[frozenset[int]]:
    """Slices joined by links, directly or through others; overlapping ones are one decision."""
    parent: dict[frozenset[int], frozenset[int]] = {}

    def find(key: frozenset[int]) -> frozenset[int]:
        parent.setdefault(key, key)
        while parent[key] != key:
            key = parent[key]
        return key

    def roots(lanes: IntArray) -> frozenset[int]:
        return frozenset(np.unique(state.lanes.roots(lanes)).tolist())

    for left, right in state.slices:
        if len(left) != len(right) or len(left) < 2:
            continue
        for a, b in zip(left, right, strict=True):
            first, second = find(roots(a)), find(roots(b))
            parent[first] = second
    for rows in state.sliced:
        for row in rows:
            find(roots(row))
    joined: dict[frozenset[int], set[int]] = defaultdict(set)
    for key in list(parent):
        joined[find(key)] |= key
    merged: list[set[int]] = []
    for channels in joined.values():
        channels = set(channels)
        touching = [m for m in merged if m & channels]
        for m in touching:
            channels |= m
            merged.remove(m)
        merged.append(channels)
    return [frozenset(m) for m in merged]
