"""`psvit inspect`: what can be pruned, what that would save, what cannot go and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psvit.capture import capture
from psvit.cli.console import reports, say
from psvit.cli.inputs import example_input, open_model
from psvit.cli.options import AllowPartial, Checkpoint, InputShape, Json, Model, ModelArg, Seed
from psvit.cost import prepare, uncounted
from psvit.groups import find_groups
from psvit.records import Figures, Groups
from psvit.report.tables import Saving, figure_table, locked_table, savings_table
from psvit.report.units import plural


@reports
def inspect(
    model: Model,
    input_shape: InputShape = None,
    checkpoint: Checkpoint = None,
    allow_partial: AllowPartial = False,
    model_arg: ModelArg = None,
    seed: Seed = 0,
    json: Json = False,
) -> Mapping[str, Any] | None:
    """Show what can be pruned, and what not.

    Lists the groups of channels of MODEL, what each would save, which stay whole and why,
    operations without a rule, and sizes that the recording could not keep open.
    """
    loaded = open_model(model, model_arg, checkpoint, allow_partial=allow_partial, seed=seed)
    graph = capture(loaded.model, example_input(loaded, model, input_shape, None))
    groups = find_groups(graph)
    meter = prepare(graph, groups)
    whole = meter.measure({})
    savings = []
    for group in groups.prunable:
        step = [cell[0] for cell in group.cells]
        most = [channel for cell in group.cells for channel in cell[1:]]
        left = [meter.measure({group.id: gone}).memory_bytes for gone in (step, most)]
        savings.append(Saving(group, *(whole.memory_bytes - bytes_left for bytes_left in left)))
    remarks = {
        "unknown": list(groups.unknown),
        "fixed": list(graph.fixed),
        "uncounted": list(uncounted(graph)),
    }
    if json:
        return _as_data(groups, savings, whole, remarks)
    _print(groups, savings, whole, remarks)
    return None


def _print(
    groups: Groups, savings: list[Saving], whole: Figures, remarks: Mapping[str, list[str]]
) -> None:
    say(figure_table(whole))
    say(f"{plural(len(savings), 'group')} can be pruned:")
    say(savings_table(savings))
    say("one step: a channel of every cell; at most: all channels but one of every cell")
    able = {saving.group.id for saving in savings}
    locked = [group for group in groups if group.id not in able]
    if locked:
        say(f"\n{plural(len(locked), 'group')} cannot:")
        say(locked_table(locked))
    for title, key in (
        ("operations without a rule", "unknown"),
        ("sizes that the recording fixed", "fixed"),
        ("operations whose MACs are not counted", "uncounted"),
    ):
        if remarks[key]:
            say(f"\n{title}:")
            for line in remarks[key]:
                say(f"  {line}")


def _as_data(
    groups: Groups, savings: list[Saving], whole: Figures, remarks: Mapping[str, list[str]]
) -> Mapping[str, Any]:
    by_id = {saving.group.id: saving for saving in savings}
    return {
        "memory_bytes": whole.memory_bytes,
        "params": whole.params,
        "macs": whole.macs,
        "groups": [
            {
                "name": group.name,
                "role": group.role,
                "channels": group.size,
                "cells": len(group.cells),
                "tie": group.tie,
                "locked": group.locked,
                "step_bytes": by_id[group.id].step_bytes if group.id in by_id else 0,
                "most_bytes": by_id[group.id].most_bytes if group.id in by_id else 0,
            }
            for group in groups
        ],
        "heads": len(groups.heads),
        **remarks,
    }
