"""The whole story: capture, group, score, allocate, rewrite, measure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from psvit.allocate import (
    PREFERRED_SALIENCY,
    allocate,
    build_ladders,
    check_choice,
    check_reachable,
    uniform_path,
)
from psvit.artefacts.lineage import plan_of, remember
from psvit.calibrate import Compensator, calibrate
from psvit.capture import capture
from psvit.capture.copying import private_copy
from psvit.cost import prepare, uncounted
from psvit.evaluate import guessing
from psvit.finetune import Tuned, finetune
from psvit.groups import find_groups, removal_of
from psvit.guidance import Guide, Tick, find_guidance, ranking_images
from psvit.latency import check_latency
from psvit.records import Curves, Graph, Groups, Result, Scores, Source
from psvit.recover import (
    COMPENSATED,
    MATCHED,
    TRAINED,
    UNTRAINED,
    Origin,
    calibration_images,
    check_recovery,
    default_saliency,
    recover_recorded,
)
from psvit.rewrite import rewrite
from psvit.saliency import FROM_DATA, check_saliency, never_fired, obs_scores
from psvit.saliency import saliency as score

Progress = Callable[[str], None]
Trainer = Callable[[nn.Module, nn.Module], Tuned]


def prune(
    model: nn.Module,
    example_inputs: torch.Tensor | Sequence[torch.Tensor],
    save: Mapping[str, float | str] | None = None,
    *,
    saliency: str | None = None,
    method: str = "uniform",
    align: int = 1,
    seed: int = 0,
    max_drop: float | None = None,
    min_accuracy: float | None = None,
    data: Iterable[Any] | None = None,
    n: int = 256,
    curves: Curves | None = None,
    correct: bool = True,
    recover: str = "none",
    device: str | torch.device = "cpu",
    source: Source | None = None,
    progress: Progress | None = None,
    tick: Tick | None = None,
    journal: Path | None = None,
    trainer: Trainer | None = None,
) -> Result:
    """A physically smaller model that saves at least ``save``, and what it costs.

    ``example_inputs``: e.g. images ``[B, C, H, W]`` with B >= 2. ``save``: unit (memory, params,
    macs, sops, energy, latency) -> what to save, e.g. ``{"memory": 0.224, "params": "300k"}``; see
    ``psvit.allocate``. ``saliency``: if none is named, l2 for method primesvt, else obs with
    recovery obs, lsq, auto or finetune, else l1; taylor and rate look at ``n`` images of ``data``,
    obs at the first 1,024.
    ``align``: widths are rounded to multiples of it.

    A budget in latency goes by a table of what layers of several widths take on this machine
    (``psvit.latency``), measured once and kept in the user's cache folder; what the result really
    takes is measured beside it (``Result.measured["latency_check"]``).

    ``max_drop``: top-1 that may be lost, or ``min_accuracy``: that has to stay; fractions. With
    one of them and no ``save`` the smallest model within it is found. ``data``: training batches
    ``(images, labels)``, which these, budgets in sops and energy, and all methods but uniform
    need: ``n`` images are analysed, up to 1,024 others check the bound
    (with 95 % confidence; see ``psvit.allocate.bounds``). ``curves``: an analysis by
    ``psvit.sensitivity``, in place of a new one. ``correct``: correct method optimal for what
    groups do together. ``device``: where models run for all that. ``tick`` hears how many images
    of how many the analysis has run, and then the search of method optimal and the check of a
    bound; ``journal``: a file that keeps what the analysis has done, from which it goes on if it
    was killed; one with ``.plans`` behind its name does so for plans that are measured. They stay.

    ``recover``: none; bn to re-estimate batch-norm statistics; obs to refit the weights that lose
    inputs, in closed form; lsq to fit layer by layer on the inputs that the pruned model has; auto
    to try matched statistics, obs and lsq and keep what helps on images held out
    (``Result.measured["recovery"]`` says what each step did). With the last three every smaller
    model that is looked at on the way is refitted as by obs (``curves`` have to be made so). All
    look at the first 1,024 images of ``data``, without labels or gradients; the same is done to a
    copy of the unpruned model (``Result.control``). finetune is auto, and trains what that leaves,
    by ``trainer(pruned, model)``, or by ``psvit.finetune`` for an epoch on ``data``; the control is
    then its teacher.

    ``source``: how to build the original again, so that
    ``psvit.save`` writes a folder that loads by itself. ``progress`` is told each stage's name.

    The model is not touched. Pruning a model that psvit pruned or loaded works: the plan of the
    result is relative to the original. Raises PsvitError subclasses; see ``psvit.errors``.
    """
    say = progress or (lambda stage: None)
    save = save or {}
    check_choice(save, method, max_drop, min_accuracy)
    check_recovery(recover, data)
    saliency = saliency or PREFERRED_SALIENCY.get(method) or default_saliency(recover)
    check_saliency(saliency, data)
    bounded = max_drop is not None or min_accuracy is not None
    say("recording the model")
    graph = capture(model, example_inputs)
    say("finding groups of channels")
    groups = find_groups(graph)
    sample = _Sample(data, n, seed, torch.device(device), bounded)
    ranking = _rank(graph, groups, saliency, recover, sample, say)
    say("choosing how many channels stay")
    check_reachable(graph, groups, ranking.scores, save, align)
    guide = Guide(
        data,
        curves,
        n,
        seed,
        correct,
        device,
        tick,
        journal,
        dense=ranking.dense if recover in COMPENSATED else None,
        matched=recover in MATCHED,
        settings={"saliency": saliency},
    )
    guidance = find_guidance(
        guide,
        model,
        graph,
        groups,
        ranking.scores,
        method=method,
        units=save,
        bounded=bounded,
        align=align,
        say=say,
    )
    plan = allocate(
        graph,
        groups,
        ranking.scores,
        save,
        method,
        align,
        max_drop=max_drop,
        min_accuracy=min_accuracy,
        **vars(guidance),
    )
    say("cutting the model")
    small = rewrite(graph, plan)
    remember(small, replace(plan, source=source), pruned_from=model)
    if recover != "none":
        say("recovering accuracy")
    origin = Origin(graph, groups, plan, ranking.dense, device, seed)
    closed = UNTRAINED if recover == TRAINED else recover
    control, measured = _recover(small, model, closed, origin, ranking.images, data)
    if recover == TRAINED:
        say("fine-tuning")
        by_default = partial(finetune, data=data, plan=plan, device=device, seed=seed)
        tuned = (trainer or by_default)(small, model)
        control, measured = tuned.teacher, {**measured, "finetune": tuned.summary()}
    removal = removal_of(graph, plan)
    if guidance.measure_drop is not None:
        measured["bound"] = guidance.measure_drop.evidence(removal)
    meter = guidance.meter or prepare(graph, groups)
    before, after = meter.measure({}), meter.measure(removal)
    if meter.latency is not None:
        say("checking how long it takes")
        measured["latency_check"] = check_latency(
            meter.latency, before, after, model, small, device
        )
    return Result(
        model=small,
        plan=plan_of(small) or plan,
        groups=groups,
        before=before,
        after=after,
        settings={
            "saliency": saliency,
            **ranking.settings,
            "recover": recover,
            "method": method,
            "align": align,
            "seed": seed,
            "save": dict(save),
            "max_drop": max_drop,
            "min_accuracy": min_accuracy,
            "left_unaligned": list(build_ladders(graph, groups, align).left),
            "uncounted_operations": list(uncounted(graph)),
        },
        measured=measured,
        curves=guidance.curves,
        control=control,
        path=uniform_path(graph, groups, ranking.scores, align),
    )


@dataclass(frozen=True)
class _Sample:
    """The training data, and how much of it is looked at and where."""

    data: Iterable[Any] | None
    n: int
    seed: int
    device: torch.device
    bounded: bool


@dataclass(frozen=True, eq=False)
class _Ranking:
    """Scores of all channels, and what was looked at for them.

    ``images``: for calibration; ``dense``: the moments that they gave, if any were taken.
    """

    scores: Scores
    images: list[torch.Tensor]
    dense: Compensator | None
    settings: Mapping[str, Any]


def _rank(
    graph: Graph, groups: Groups, saliency: str, recover: str, sample: _Sample, say: Progress
) -> _Ranking:
    """Rank channels by ``saliency``, after the one pass that obs and compensation need."""
    seed, device = sample.seed, sample.device
    unseen = recover == "none" and saliency != "obs"
    images = [] if unseen else calibration_images(sample.data or ())
    dense = None
    if saliency == "obs" or recover in COMPENSATED:
        say("looking at what every layer reads")
        dense = calibrate(graph, groups, images, seed=seed, device=device)
    say("ranking channels")
    looked_at = None
    if saliency == "obs" and dense is not None:
        scores = obs_scores(dense)
    else:
        if saliency in FROM_DATA:
            looked_at = ranking_images(sample.data, sample.n, seed, bounded=sample.bounded)
        scores = score(graph, groups, saliency, seed, data=looked_at, n=sample.n, device=device)
    settings = {
        "saliency_images": None if looked_at is None else sum(len(b[0]) for b in looked_at),
        "never_fired": never_fired(groups, scores) if saliency == "rate" else None,
        "calibration_images": sum(len(batch) for batch in images) or None,
        "calibration_notes": [] if dense is None else list(dense.moments.notes),
    }
    return _Ranking(scores, images, dense, settings)


def _recover(
    small: nn.Module,
    model: nn.Module,
    recover: str,
    origin: Origin,
    images: list[torch.Tensor],
    data: Iterable[Any] | None,
) -> tuple[nn.Module | None, dict[str, Any]]:
    """Recover ``small`` in place, and a copy of the unpruned ``model``; with what was done."""
    if recover == "none":
        return None, {}
    record = recover_recorded(small, images, recover, origin)
    control = private_copy(model)
    recover_recorded(control, images, recover, None)
    warning = guessing(control, data or (), origin.device)
    notes = (*record.notes, warning) if warning else record.notes
    return control, {"recovery": replace(record, notes=notes).to_dict()}
