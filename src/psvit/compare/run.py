"""compare(model, images, save, data, eval_data) -> Comparison: methods at the same budgets."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from psvit.allocate import check_reachable
from psvit.capture import capture
from psvit.compare.cells import CELLS, CONTROL, DENSE, Cell, cell_key
from psvit.compare.job import Evaluate, Job, held, pruned, unpruned
from psvit.compare.levels import Budget, budget_text, read_levels
from psvit.compare.rows import UNSTRUCTURED, Row, read_rows
from psvit.compare.verdicts import Comparison
from psvit.errors import DataError, OptionError
from psvit.evaluate import right_images
from psvit.groups import find_groups, fingerprint
from psvit.guidance import Guidance, Guide, Tick, find_guidance
from psvit.journal import Journal, open_journal
from psvit.records import Curves
from psvit.recover import IMAGES, MATCHED, TRAINED, check_recovery, default_saliency
from psvit.saliency import check_saliency
from psvit.sensitivity import batches_hash, curves_to_json, weights_hash

FOR_MASKS = frozenset({"none", "bn"})
"""Recoveries that mean something for a model that has lost single weights, not channels."""


def compare(
    model: nn.Module,
    example_inputs: torch.Tensor | Sequence[torch.Tensor],
    save: Mapping[str, Sequence[float | str]],
    data: Iterable[Any],
    eval_data: Iterable[Any],
    *,
    methods: Sequence[str] | None = None,
    saliency: str | None = None,
    recover: str = "none",
    n: int = 256,
    seed: int = 0,
    align: int = 1,
    curves: Curves | None = None,
    device: str | torch.device = "cpu",
    journal: Path | None = None,
    analysis_journal: Path | None = None,
    progress: Callable[[str], None] | None = None,
    tick: Tick | None = None,
    cell_tick: Tick | None = None,
    settings: Mapping[str, Any] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Comparison:
    """Every method at every level of ``save``, judged on the same images of ``eval_data``.

    ``save``: unit -> levels, e.g. ``{"memory": [0.1, 0.224]}``; see ``psvit.allocate``.
    ``methods``: see ``psvit.compare.rows``; all of them without. ``data``: training batches
    ``(images, labels)``, all that selection, analysis and recovery see; ``eval_data``: labelled
    batches, run through anew for each result, on which nothing is chosen.

    One sensitivity analysis, of ``n`` training images, guides all methods that need one, with one
    ranking of the channels: ``saliency``, by default l1 or what goes with the recovery. So they
    differ in nothing but how they share out the budget. ``curves``: an analysis made before.
    ``recover``, ``align``, ``device`` as in ``psvit.prune``: the recovery is applied to every model
    alike, and to the unpruned one as control.

    ``journal``, ``analysis_journal``: files to keep finished results and points in; a job that was
    killed goes on from them, and computes nothing twice. They stay (and beside the latter one of
    plans; see ``psvit.prune``). ``tick`` hears how many images of how many the analysis has run,
    and then the search of method optimal, ``cell_tick`` how many results of how many are done.

    The model is not touched. Raises PsvitError subclasses; see ``psvit.errors``.
    """
    say = progress or (lambda stage: None)
    rows, budgets = read_rows(methods), read_levels(save)
    check_recovery(recover, data)
    if recover == TRAINED:
        raise OptionError(
            f"a comparison does not train: expected another recovery than {TRAINED}, or run `psvit "
            "finetune` on the folders of `psvit prune`"
        )
    saliency = saliency or default_saliency(recover)
    check_saliency(saliency, data)
    say("recording the model")
    graph = capture(model, example_inputs)
    say("finding groups of channels")
    groups = find_groups(graph)
    place = torch.device(device)
    job = Job(
        model=model,
        graph=graph,
        groups=groups,
        train=held(data, max(n, IMAGES)),
        evaluate=_evaluation(eval_data, place),
        saliency=saliency,
        recover=recover,
        n=n,
        seed=seed,
        align=align,
        device=place,
        clock=clock,
    )
    if curves is None and any(row.guided for row in rows):
        _check_enough(job.train, n)
    say("ranking channels")
    for budget in budgets:
        check_reachable(graph, groups, job.ranking(saliency)[0], budget, align)
    rows, left_out = _comparable(rows, budgets, recover)
    known = {
        "recover": recover,
        "saliency": saliency,
        "n": n,
        "seed": seed,
        "align": align,
        "weights": weights_hash(graph),
        "images": batches_hash(job.train),
        "evaluation": batches_hash(islice(eval_data, 1)),
        "curves": None if curves is None else _hash(curves_to_json(curves)),
    }
    guide = Guide(
        job.train,
        curves,
        n,
        seed,
        device=place,
        tick=tick,
        journal=analysis_journal,
        dense=job.compensator(),
        matched=job.recover in MATCHED,
        settings={"saliency": saliency},
    )
    with open_journal(CELLS, journal, fingerprint(graph), known) as done:
        analysis_s = _fill(job, guide, rows, budgets, done, say, cell_tick or (lambda *_: None))
        kept = done.done
    return Comparison(
        fingerprint=fingerprint(graph),
        settings={**(settings or {}), **known},
        dense=kept[cell_key(DENSE, {})],
        control=kept.get(cell_key(CONTROL, {})),
        cells=tuple(kept[cell_key(row.name, b)] for b in budgets for row in rows),
        analysis_s=analysis_s,
        left_out=left_out,
    )


def _fill(
    job: Job,
    guide: Guide,
    rows: Sequence[Row],
    budgets: Sequence[Budget],
    done: Journal[Cell],
    say: Callable[[str], None],
    tick: Tick,
) -> float | None:
    """Make every result that the journal lacks; returns the seconds of an analysis made whole."""
    whole = [name for name in (DENSE, CONTROL) if name == DENSE or job.recover != "none"]
    for name in whole:  # first, so that data that cannot be evaluated on is found at once
        if cell_key(name, {}) not in done.done:
            say(f"accuracy of the {name} model")
            done.add(unpruned(job, name))
    todo = [(r, b) for b in budgets for r in rows if cell_key(r.name, b) not in done.done]
    fresh = guide.journal is None or not guide.journal.exists()
    start = job.clock()
    guidance = _guidance(job, guide, [row for row, _ in todo], budgets, say)
    seconds = job.clock() - start if fresh and guidance.curves is not guide.curves else None
    for count, (row, budget) in enumerate(todo):
        tick(count, len(todo))
        say(f"{row.name}, {budget_text(budget)}")
        done.add(pruned(job, guidance, row, budget))
    tick(len(todo), len(todo))
    return seconds


def _guidance(
    job: Job,
    guide: Guide,
    rows: Sequence[Row],
    budgets: Sequence[Budget],
    say: Callable[[str], None],
) -> Guidance:
    """What the rows that are still to do need, made once for all of them."""
    guided = [row.method for row in rows if row.guided and row.method]
    method = "optimal" if "optimal" in guided else (guided or ["uniform"])[0]
    return find_guidance(
        guide,
        job.model,
        job.graph,
        job.groups,
        job.ranking(job.saliency)[0],
        method=method,
        units=budgets[0],
        bounded=False,
        align=job.align,
        say=say,
    )


def _comparable(
    rows: Sequence[Row], budgets: Sequence[Budget], recover: str
) -> tuple[tuple[Row, ...], tuple[str, ...]]:
    """The rows that mean something here; and in words, which do not."""
    why = None
    if not {"memory", "params"} & set(budgets[0]):
        units = " and ".join(budgets[0])
        why = f"masks are compared at a share of memory or params, not of {units}"
    elif recover not in FOR_MASKS:
        why = f"recovery {recover} refits the channels that stay, and masks remove none"
    masks = [row for row in rows if row.method is None]
    if why is None or not masks:
        return tuple(rows), ()
    return tuple(row for row in rows if row not in masks), (f"{UNSTRUCTURED}: {why}",)


def _check_enough(batches: Sequence[Any], n: int) -> None:
    """Say before any work what the analysis would say after some."""
    count = sum(len(batch[0] if isinstance(batch, tuple | list) else batch) for batch in batches)
    if count < n:
        raise DataError(
            f"the analysis is to use {n:,} images, the data has {count:,}: ask for at most {count}"
        )


def _evaluation(data: Iterable[Any], device: torch.device) -> Evaluate:
    return lambda model: right_images(model, data, device=device)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
