"""sensitivity(graph, groups, scores, batches) -> Curves: what pruning each group alone does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from psvit.calibrate import Compensator
from psvit.cost import Meter, prepare
from psvit.errors import ModelError
from psvit.groups import fingerprint
from psvit.journal import Journal, open_journal
from psvit.records import Curves, Graph, Groups, Scores
from psvit.sensitivity.bench import (
    Bench,
    Job,
    job_of,
    kl_of,
    measure,
    point_of,
    saved_between,
    set_up,
)
from psvit.sensitivity.identity import channels_hash, hash_of, weights_hash
from psvit.sensitivity.journal import LOOKS
from psvit.sensitivity.looks import UNPRUNED, Look
from psvit.sensitivity.race import Key, Race, next_keys
from psvit.sensitivity.sample import read_sample
from psvit.sensitivity.trials import GRID, Trial, Trials, check_grid, list_trials
from psvit.team import own_first

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
    race: Race | None = None,
    memory_limit: int | None = None,
) -> Curves:
    """For each tie of groups and each ratio: the effect of pruning it alone, and what it saves.

    PSViT (Putra et al., arXiv 2606.03257) analyses how sensitive accuracy is to pruning each
    layer, against its size; its abstract says no more. That ties are the unit, the KL divergence
    and the drifts are ours. Channels go by the lowest ``scores``; see ``trials`` for ratios.

    ``batches`` yields ``(images [B, C, H, W], labels [B])``; the first ``n`` images are held in
    memory. ``labels`` False: no accuracy, and images alone will do. ``seed`` fixes forwards that
    draw random numbers. ``journal``: a file to keep finished points in; if it exists, the
    analysis goes on from it, and it stays; processes that are given the same one share the work
    and come to the same result. ``progress`` hears of images run and to run.
    ``settings``: more to keep in ``Curves.settings``, such as the names of data and saliency.
    ``meter``: what prices removals, if not ``psvit.cost.prepare(graph, groups)``: one that has
    seen the model fire knows SOPs and energy too. ``compensator``: every point is measured after
    the channels that stay have been refitted by it (``psvit.calibrate``), else as it is cut;
    ``Curves.settings`` says which, under "recover".

    ``race``: look at few images of each point, and at more where its place among the others is not
    clear (``psvit.sensitivity.race``); ``n`` is then the most, and ``Point.n`` says how many it
    was. Without it every point is measured on all ``n``. ``memory_limit``: bytes that forwards and
    what is kept of them may take, beside the model and the images (``psvit.sensitivity.memory``).

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
    if race is not None:
        sample = sample.cut(race.sizes(n))
    trials = list_trials(graph, groups, scores, ratios)
    meter = meter or prepare(graph, groups)
    mark = fingerprint(graph)
    known = {
        **(settings or {}),
        "n": n,
        "seed": seed,
        "grid": list(ratios),
        "labels": labels,
        "race": None if race is None else asdict(race),
        "images": sample.digest,
        "weights": weights_hash(graph),
        "channels": channels_hash(trials),
        "units": list(saved_between(meter.measure({}), meter.measure({}))),
        "left_out": list(trials.left_out),
        "recover": "none" if compensator is None else "obs",
        "calibration": None if compensator is None else compensator.moments.digest,
    }
    place = torch.device(device)
    with torch.no_grad(), torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
        bench = set_up(graph, meter, sample, seed, place, memory_limit)
        jobs = {key: job_of(bench, groups, t, compensator) for key, t in _keyed(trials).items()}
        most = len(jobs) * n if race is None else race.forwards(n, len(jobs))
        tell = _Count(int(most), progress)
        seen: dict[Key, list[int]] = {key: [] for key in jobs}  # batches
        wave, number = list(jobs), dict.fromkeys(jobs, 0)
        batches = hash_of([len(x) for x in bench.sample.images])
        with open_journal(LOOKS, journal, mark, {**known, "batches": batches}) as done:
            while wave:
                asked = {key: bench.sample.look(number[key]) for key in wave}
                _look(bench, done, jobs, asked, tell)
                for key, these in asked.items():
                    seen[key] += these
                    number[key] += 1
                wave = [] if race is None else next_keys(race, race.sizes(n), _kl(done, seen))
            looks = dict(done.done)
        points = tuple(
            point_of(
                bench,
                trial,
                [looks[UNPRUNED, 0, batch] for batch in seen[key]],
                [looks[*key, batch] for batch in seen[key]],
            )
            for key, trial in _keyed(trials).items()
        )
        every = sorted({batch for these in seen.values() for batch in these})
        dense = bench.figures([looks[UNPRUNED, 0, batch] for batch in every])
    known["images_run"] = sum(point.n for point in points)
    return Curves(mark, known, trials.names, dense, points)


def _look(
    bench: Bench,
    done: Journal[Look],
    jobs: Mapping[Key, Job],
    asked: Mapping[Key, Iterable[int]],
    tell: _Count,
) -> None:
    """See to it that every point has been looked at on the batches that are asked for.

    Batch by batch, so that the unpruned model runs over a batch once; processes that share the
    work begin with different ones, and help one another at the end.
    """
    todo = {
        (*key, batch): replace(jobs[key], batch=batch)
        for key, batches in asked.items()
        for batch in batches
    }
    tell.known(len(done.done[key].kl) for key in todo if key in done.done)
    by_batch: dict[int, list[Job]] = {}
    for job in sorted(todo.values(), key=lambda job: (job.batch, *job.order)):
        by_batch.setdefault(job.batch, []).append(job)
    order: list[tuple[int, int, int]] = []
    for batch in own_first(list(by_batch)):
        order += [(UNPRUNED, 0, batch), *(job.key for job in by_batch[batch])]
    for key in done.take(order):
        done.add(measure(bench, todo[key], tell) if key in todo else bench.look(key[2]))


def _keyed(trials: Trials) -> dict[Key, Trial]:
    return {(trial.tie, trial.removed): trial for trial in trials.items}


def _kl(done: Journal[Look], seen: Mapping[Key, Sequence[int]]) -> dict[Key, torch.Tensor]:
    """The divergence of each image that each point has been looked at on."""
    return {
        key: torch.tensor(kl_of([done.done[*key, b] for b in batches]), dtype=torch.float64)
        for key, batches in seen.items()
    }


class _Count:
    """Adds up the images that are run; ``most``: how many there will be, at most."""

    def __init__(self, most: int, progress: Progress | None) -> None:
        self._done = 0
        self._most = most
        self._progress = progress

    def known(self, images: Iterable[int]) -> None:
        """What needs not be run."""
        self._most -= sum(images)

    def __call__(self, more: int) -> None:
        self._done += more
        if self._progress is not None:
            self._progress(self._done, max(self._done, self._most))
