"""The whole story: capture, group, score, allocate, rewrite, measure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn

from psvit.allocate import allocate, build_ladders, uniform_path
from psvit.artefacts.lineage import plan_of, remember
from psvit.capture import capture
from psvit.cost import measure, uncounted
from psvit.groups import find_groups, removal_of
from psvit.records import Result, Source
from psvit.rewrite import rewrite
from psvit.saliency import saliency as score

Progress = Callable[[str], None]


def prune(
    model: nn.Module,
    example_inputs: torch.Tensor | Sequence[torch.Tensor],
    save: Mapping[str, float],
    *,
    saliency: str = "l1",
    method: str = "uniform",
    align: int = 1,
    seed: int = 0,
    source: Source | None = None,
    progress: Progress | None = None,
) -> Result:
    """A physically smaller model that saves at least ``save``, and what it costs.

    ``example_inputs``: e.g. images ``[B, C, H, W]`` with B >= 2. ``save``: unit -> fraction
    saved, e.g. ``{"memory": 0.224}``; units are memory, params and macs. ``align``: widths are
    rounded to multiples of it. ``source``: how to build the original again, so that
    ``psvit.save`` writes a folder that loads by itself. ``progress`` is told each stage's name.

    The model is not touched. Pruning a model that psvit pruned or loaded works: the plan of the
    result is relative to the original. Raises PsvitError subclasses; see ``psvit.errors``.
    """
    say = progress or (lambda stage: None)
    say("recording the model")
    graph = capture(model, example_inputs)
    say("finding groups of channels")
    groups = find_groups(graph)
    say("ranking channels")
    scores = score(graph, groups, saliency, seed)
    say("choosing how many channels stay")
    plan = allocate(graph, groups, scores, save, method, align)
    say("cutting the model")
    small = rewrite(graph, plan)
    remember(small, replace(plan, source=source), pruned_from=model)
    settings = {
        "saliency": saliency,
        "method": method,
        "align": align,
        "seed": seed,
        "save": dict(save),
        "left_unaligned": list(build_ladders(graph, groups, align).left),
        "uncounted_operations": list(uncounted(graph)),
    }
    return Result(
        model=small,
        plan=plan_of(small) or plan,
        groups=groups,
        before=measure(graph, groups, {}),
        after=measure(graph, groups, removal_of(graph, plan)),
        settings=settings,
        path=uniform_path(graph, groups, scores, align),
    )
