"""sensitivity(graph, groups, scores, batches) -> Curves: what pruning each group alone does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from psvit.calibrate import Compensator
from psvit.cost import Meter, prepare
from psvit.errors import ModelError
from psvit.groups import fingerprint
from psvit.journal import open_journal
from psvit.records import Curves, Graph, Groups, Scores
from psvit.sensitivity.bench import job_of, measure, saved_between, set_up
from psvit.sensitivity.identity import channels_hash, weights_hash
from psvit.sensitivity.journal import POINTS
from psvit.sensitivity.sample import read_sample
from psvit.sensitivity.trials import GRID, check_grid, list_trials

Progress = Callable[[int, int | None], None]
"""Called with the forwards done and to do, counted in images."""


def sensitivity(
    graph: Graph,
    groups: Groups,
    scores: Scores,
    batches: Iterable[Any],
    *,
    grid: Sequence[float] = GRID,
    n: int = 256,
    seed: int = 0,
    labels: bool = True,
    journal: Path | None = None,
    progress: Progress | None = None,
    device: str | torch.device = "cpu",
    settings: Mapping[str, Any] | None = None,
    meter: Meter | None = None,
    compensator: Compensator | None = None,
) -> Curves:
    """For each tie of groups and each ratio: the effect of pruning it alone, and what it saves.

    PSViT (Putra et al., arXiv 2606.03257) analyses how sensitive accuracy is to pruning each
    layer, against its size; its abstract says no more. That ties are the unit, the KL divergence
    and the drifts are ours. Channels go by the lowest ``scores``; see ``trials`` for ratios.

    ``batches`` yields ``(images [B, C, H, W], labels [B])``; the first ``n`` images are held in
    memory. ``labels`` False: no accuracy, and images alone will do. ``seed`` fixes forwards that
    draw random numbers. ``journal``: a file to keep finished points in; if it exists, the
    analysis goes on from it, and it stays. ``progress`` hears of images run and to run.
    ``settings``: more to keep in ``Curves.settings``, such as the names of data and saliency.
    ``meter``: what prices removals, if not ``psvit.cost.prepare(graph, groups)``: one that has
    seen the model fire knows SOPs and energy too. ``compensator``: every point is measured after
    the channels that stay have been refitted by it (``psvit.calibrate``), else as it is cut;
    ``Curves.settings`` says which, under "recover".

    The model is not touched, and the random state is restored. Points are measured on the
    unpruned model with zeroed slices (and refitted weights), and run only from the first layer
    that changed.
    Raises OptionError, DataError and ModelError for input that cannot be used, PlanError for a
    journal of another analysis, OutputError if it cannot be written.
    """
    ratios = check_grid(grid)
    if len(graph.inputs) != 1:
        raise ModelError(
            f"the model takes {len(graph.inputs)} inputs: the analysis is for models of images"
        )
    sample = read_sample(batches, n, labels)
    trials = list_trials(graph, groups, scores, ratios)
    meter = meter or prepare(graph, groups)
    mark = fingerprint(graph)
    known = {
        **(settings or {}),
        "n": n,
        "seed": seed,
        "grid": list(ratios),
        "labels": labels,
        "images": sample.digest,
        "weights": weights_hash(graph),
        "channels": channels_hash(trials),
        "units": list(saved_between(meter.measure({}), meter.measure({}))),
        "left_out": list(trials.left_out),
        "recover": "none" if compensator is None else "obs",
        "calibration": None if compensator is None else compensator.moments.digest,
    }
    place = torch.device(device)
    with (
        open_journal(POINTS, journal, mark, known) as done,
        torch.no_grad(),
        torch.random.fork_rng(devices=[place] if place.type == "cuda" else []),
    ):
        bench = set_up(graph, meter, sample, seed, place)
        todo = [t for t in trials.items if (t.tie, t.removed) not in done.done]
        jobs = sorted(
            (job_of(bench, groups, t, compensator) for t in todo), key=lambda job: job.order
        )
        tell = _count(len(todo) * n, progress)
        for job in jobs:
            done.add(measure(bench, job, tell))
    points = tuple(done.done[t.tie, t.removed] for t in trials.items)
    return Curves(mark, known, trials.names, bench.dense, points)


def _count(total: int, progress: Progress | None) -> Callable[[int], None]:
    """Adds up what it is told."""
    done = 0

    def tell(more: int) -> None:
        nonlocal done
        done += more
        if progress is not None:
            progress(done, total)

    return tell
