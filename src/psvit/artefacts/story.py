"""What metrics.json tells of the groups, so that a folder explains itself without its model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from psvit.records import Group, Plan, Result


def story(result: Result) -> Mapping[str, Any]:
    """`groups`: each with its cells, heads, lock and removed channels; `path`: other budgets."""
    heads = [set(head.channels) for head in result.groups.heads]
    whole = all(
        width.before == group.size
        for width, group in zip(result.plan.widths, result.groups, strict=False)
    )
    groups = [
        {
            "name": group.name,
            "role": group.role,
            "channels": group.size,
            "cells": len(group.cells),
            "heads": sum(group.id in head for head in heads),
            "in_order": all(list(c) == list(range(c[0], c[0] + len(c))) for c in group.cells),
            "tie": group.tie,
            "locked": _why_locked(group),
            # A plan over several prunings counts in the original, these groups do not.
            "removed": _removed(group, result.plan) if whole else None,
        }
        for group in result.groups
    ]
    path = {} if result.path is None else {"path": asdict(result.path)}
    return {"groups": groups, **path}


def _why_locked(group: Group) -> str | None:
    if group.locked is None and len(group.cells[0]) < 2:
        return "a single channel a cell"
    return group.locked


def _removed(group: Group, plan: Plan) -> list[int]:
    """The channels of a group that the plan takes, read off one of its slots."""
    slot = next((s for s in group.slots if str(s.dim) in plan.keep.get(s.tensor, {})), None)
    if slot is None:
        return []
    kept = set(plan.keep[slot.tensor][str(slot.dim)])
    return [c for c, at in enumerate(slot.index[:, 0].tolist()) if at not in kept]
