"""What guides an allocation beyond the weights: curves, firing rates, and measuring on images."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from psvit.allocate import METHODS, NEEDS_CURVES, Measure, usual_plans
from psvit.calibrate import Compensator
from psvit.cost import Meter, observe, prepare
from psvit.errors import DataError, OptionError
from psvit.groups import fingerprint
from psvit.latency import with_latency
from psvit.measured import JUDGES, MOVES, RIGHT, Search, count, plans_file
from psvit.records import Curves, Graph, Groups, Scores
from psvit.sensitivity import (
    Race,
    batches_hash,
    check_accuracy,
    check_curves,
    sensitivity,
    weights_hash,
)
from psvit.whole_plans import Batch, DropCheck, loss_on, right_on

SPIKING_UNITS = frozenset({"sops", "energy"})
"""Units of a budget that firing rates decide."""

TIME = "latency"
"""The unit of a budget that this machine decides."""

CHECKED = 1024
"""Images that plans are judged on, or a bound on accuracy is checked on, if there are so many:
where no difference is seen on them, a drop of more than 0.3 points is ruled out; on 256 it would be
1.1."""

CHECKS = 3
"""Measurements that a bound on accuracy usually takes: of the whole model, and of two plans."""

Tick = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Guidance:
    """What ``psvit.allocate`` takes under these names; None for what is not needed."""

    curves: Curves | None = None
    meter: Meter | None = None
    measure_drop: DropCheck | None = None
    measure_loss: Measure | None = None
    judge_loss: Measure | None = None


@dataclass(frozen=True)
class Guide:
    """How to get guidance.

    ``data`` yields ``(images, labels)`` or images alone: training data. Curves, firing rates and
    losses are measured on ``n`` images; up to CHECKED (or ``n``) others check a bound on accuracy.
    Without a bound they judge whole plans, and the curves are a race: ``n`` is what a point may see
    at most, and all together cost at most a twentieth of CHECKED forwards a point. A bound needs
    more than a ranking.
    ``curves``: an analysis made before. ``correct``: correct method "optimal" for interaction.
    ``tick`` hears how far the analysis is, and then the search. ``journal``: a file that keeps
    finished points of the analysis, which goes on from it if it was killed; the plans that were
    measured are kept in another beside it (``psvit.measured.plans_file``). ``dense``: what smaller
    models are compensated by wherever they are measured; without it they are measured as they are
    cut. ``matched``: plans are measured with matched batch-norm statistics, as recovery auto leaves
    them. ``settings``: more to keep with a new analysis, such as the name of the ranking.
    """

    data: Iterable[Any] | None = None
    curves: Curves | None = None
    n: int = 256
    seed: int = 0
    correct: bool = True
    device: str | torch.device = "cpu"
    tick: Tick | None = None
    journal: Path | None = None
    dense: Compensator | None = None
    matched: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)


def images_needed(n: int, bounded: bool) -> int:
    """Training images that an analysis of ``n`` reads, with those that check a bound."""
    return n + max(n, CHECKED) if bounded else n


def find_guidance(
    guide: Guide,
    model: nn.Module,
    graph: Graph,
    groups: Groups,
    scores: Scores,
    *,
    method: str,
    units: Collection[str],
    bounded: bool,
    align: int = 1,
    say: Callable[[str], None],
) -> Guidance:
    """What a method, budgets in ``units`` and a bound on accuracy need, at aligned widths.

    Raises OptionError if that takes data or labels and there are none, PlanError for curves of
    another model, DataError for too few images.
    """
    if guide.curves is not None:
        check_curves(guide.curves, graph, compensated=guide.dense is not None)
        if bounded and guide.data is None:
            check_accuracy(guide.curves)
    timed = None
    if TIME in units:
        say("looking up how long layers take")
        timed = with_latency(
            prepare(graph, groups), graph, groups, device=guide.device, align=align, say=say
        )
    needs_curves = method in NEEDS_CURVES or bounded
    needs_rates = not SPIKING_UNITS.isdisjoint(units)
    if guide.data is None:
        if needs_rates or (needs_curves and guide.curves is None):
            raise OptionError(_without_data(method, needs_rates, bounded))
        return Guidance(guide.curves, timed)
    if not needs_curves and not needs_rates:
        return Guidance(guide.curves, timed)
    seen, unseen = _split(guide.data, guide.n, images_needed(guide.n, bounded), guide.seed)
    if bounded and not unseen and count(seen) == guide.n:
        raise DataError(
            f"a bound on accuracy is checked on images that the analysis did not see, but the data "
            f"has no more than the {guide.n:,} of the analysis: give more data or a smaller n"
        )
    labelled = all(len(batch) > 1 for batch in seen)
    if bounded and not labelled:
        raise OptionError(
            "a bound on accuracy is asked for, but the data yields images without labels: give "
            "labelled data, or leave the bound out"
        )
    meter = timed
    if needs_rates:
        say("measuring firing rates")
        activity = observe(graph, seen, groups, seed=guide.seed, device=guide.device)
        meter = replace(
            prepare(graph, groups, activity), latency=None if timed is None else timed.latency
        )
    curves = guide.curves
    if needs_curves and curves is None:
        say("pruning each group alone")
        curves = sensitivity(
            graph,
            groups,
            scores,
            seen,
            n=guide.n,
            seed=guide.seed,
            labels=labelled,
            journal=guide.journal,
            progress=guide.tick,
            settings=guide.settings,
            device=guide.device,
            meter=meter,
            compensator=guide.dense,
            race=None if bounded else Race(images=CHECKED),
        )
    say("choosing how many channels stay")
    corrected = method == "optimal" and guide.correct
    if not bounded and not corrected:
        return Guidance(curves, meter)
    others = unseen if bounded else _next(guide.data, guide.n, CHECKED)
    search = _search(guide, graph, seen, others)
    drop = loss = judge = None
    if bounded:
        n = count(others)
        right = right_on(others, model, graph, groups, guide.device, guide.dense)
        drop = DropCheck(n, search.kept(RIGHT, n, right))
        search.expect(CHECKS * n)
    if corrected:
        judges = [] if bounded else others
        loss, judge = _losses(guide, graph, groups, seen, judges, search)
        plans, judged = usual_plans(len({g.tie for g in groups.prunable}), len(METHODS) - 1)
        search.expect(plans * count(seen) + judged * count(judges))
    return Guidance(curves, meter, drop, loss, judge)


def _search(guide: Guide, graph: Graph, seen: list[Batch], others: list[Batch]) -> Search:
    """What measures plans, on the images ``seen`` and on ``others``, and keeps them."""
    dense = guide.dense
    settings = {
        "n": guide.n,
        "seed": guide.seed,
        "images": batches_hash(seen),
        JUDGES: batches_hash(others),
        "weights": weights_hash(graph),
        "recover": "none" if dense is None else "obs",
        "calibration": None if dense is None else dense.moments.digest,
    }
    path = None if guide.journal is None else plans_file(guide.journal)
    return Search(path, fingerprint(graph), settings, guide.tick or (lambda done, most: None))


def _losses(
    guide: Guide,
    graph: Graph,
    groups: Groups,
    seen: list[Batch],
    others: list[Batch],
    search: Search,
) -> tuple[Measure, Measure | None]:
    """What measures moves on the images ``seen``, and what judges plans on ``others``, if any."""

    def kept(by: str, batches: list[Batch], *, classes: bool) -> Measure:
        measure = loss_on(
            batches,
            graph,
            groups,
            guide.device,
            guide.dense,
            classes=classes,
            matched=guide.matched,
        )
        how = f"{by}{', classes' if classes else ''}{', matched' if guide.matched else ''}"
        return search.kept(how, count(batches), measure)

    steady = guide.dense is not None and bool(others)
    return (
        kept(MOVES, seen, classes=not steady),
        kept(JUDGES, others, classes=True) if others else None,
    )


def ranking_images(
    data: Iterable[Any] | None, n: int, seed: int, *, bounded: bool
) -> list[Batch] | None:
    """The ``n`` images that an analysis of the same data looks at, or all if there are fewer."""
    return None if data is None else _split(data, n, images_needed(n, bounded), seed)[0]


def _split(data: Iterable[Any], n: int, most: int, seed: int) -> tuple[list[Batch], list[Batch]]:
    """Of the first ``most`` images, ``n`` drawn at random, and the others.

    They are drawn, as data may be sorted by class. Fewer than ``n`` are left for the analysis to
    refuse.
    """
    batches: list[Batch] = []
    count = 0
    for batch in data:
        parts = tuple(batch[:2]) if isinstance(batch, tuple | list) else (batch,)
        if not parts or not all(isinstance(p, torch.Tensor) and p.ndim for p in parts):
            raise DataError(
                f"the data yields a {type(batch).__name__}: expected (images, labels), two tensors"
            )
        batches.append(tuple(part[: most - count] for part in parts))
        count += len(batches[-1][0])
        if count >= most:
            break
    if count <= n:
        return batches, []
    size = len(batches[0][0])
    whole = [torch.cat(parts) for parts in zip(*batches, strict=True)]
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))

    def some(chosen: torch.Tensor) -> list[Batch]:
        return [tuple(part[index] for part in whole) for index in torch.split(chosen, size)]

    return some(order[:n]), some(order[n:])


def _next(data: Iterable[Any], n: int, most: int) -> list[Batch]:
    """Up to ``most`` images behind the first ``n``."""
    found: list[Batch] = []
    start = 0
    for batch in data:
        images = batch[0] if isinstance(batch, tuple | list) else batch
        part = images[max(n - start, 0) : n + most - start]
        found += [(part,)] if len(part) else []
        start += len(images)
        if start >= n + most:
            break
    return found


def _without_data(method: str, rates: bool, bounded: bool) -> str:
    if method in NEEDS_CURVES:
        why = f"method {method!r} is guided by a sensitivity analysis"
    elif bounded:
        why = "a bound on accuracy needs a sensitivity analysis"
    else:
        why = "a budget in sops or energy needs the firing rates of the model"
    also = "" if rates else ", or an analysis made before (curves=, --sensitivity FILE)"
    return f"{why}: give training data (data=, --data DATA){also}"
