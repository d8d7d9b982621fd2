"""The unpruned model with its images, ready to have removals tried on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from psvit.calibrate import Compensator
from psvit.capture.copying import private_copy
from psvit.capture.prefix import Prefix
from psvit.capture.program import Program, first_reader, prepare_program, run, safe_start
from psvit.cost import Meter
from psvit.errors import DataError, ModelError
from psvit.evaluate import paired_drop, wilson
from psvit.neurons import reset_state
from psvit.outputs import kl_per_image, log_probabilities
from psvit.records import Figures, Graph, Groups, Point
from psvit.rewrite.zeroing import Edit, edits_of, replaced, zeroed
from psvit.sensitivity.effect import (
    Activity,
    drift,
    mean_interval,
)
from psvit.sensitivity.sample import Sample
from psvit.sensitivity.trials import Trial

SAVED: Mapping[str, Callable[[Figures], float | None]] = {
    "memory": lambda figures: figures.memory_bytes,
    "params": lambda figures: figures.params,
    "macs": lambda figures: figures.macs,
    "sops": lambda figures: figures.sops,
    "energy": lambda figures: figures.energy_pj,
}
"""Units of what is saved; one that the cost model does not measure is left out."""


@dataclass(frozen=True, eq=False)
class Bench:
    """A private copy of the model, its images, and what it does unpruned.

    ``dense_log``: log-probabilities ``[B, K]`` of each batch. ``right``: which images it
    classifies correctly, ``[n]``; None without labels.
    """

    program: Program
    prefix: Prefix
    sample: Sample
    meter: Meter
    dense: Figures
    dense_log: tuple[torch.Tensor, ...]
    right: torch.Tensor | None
    rates: Mapping[str, float]
    potentials: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Job:
    """A trial, what it zeroes, and the position from which the model has to be run again.

    ``compensator``: what refits the weights that lose inputs, if anything does.
    """

    trial: Trial
    edits: tuple[Edit, ...]
    start: int
    compensator: Compensator | None = None

    @property
    def order(self) -> tuple[int, int, int]:
        """Jobs of ascending order let the prefix only move on."""
        return self.start, self.trial.tie, self.trial.removed


def set_up(graph: Graph, meter: Meter, sample: Sample, seed: int, device: torch.device) -> Bench:
    """Copy the model to ``device``, run it unpruned, and check its recording on these images.

    Raises ModelError if the forward fails or the recording does not reproduce it, DataError for
    labels that are no classes of the model.
    """
    root = private_copy(graph.module).to(device).eval()
    sample = sample.to(device)
    _check_forwards(root, sample)
    program = prepare_program(root, graph.forwards["eval"], (sample.images[0],))
    prefix = Prefix(program, sample.images, seed)
    activity, logs, sizes = Activity(), [], set()
    for batch, images in enumerate(sample.images):
        logs.append(_outputs(program, prefix, batch, 0, activity))
        if len(images) not in sizes:
            sizes.add(len(images))
            prefix.at(batch, 0)  # the same random numbers again
            expected = log_probabilities(_forward(root, images), len(images))
            _check_recording(graph, logs[-1], expected)
    dense, right = replace(meter.measure({}), n=sample.n), None
    if sample.labels is not None:
        right = _right(logs, sample.labels)
        low, high = wilson(int(right.sum()), sample.n)
        share = int(right.sum()) / sample.n
        dense = replace(dense, accuracy=share, accuracy_low=low, accuracy_high=high)
    return Bench(
        program,
        prefix,
        sample,
        meter,
        dense,
        tuple(logs),
        right,
        activity.rates(),
        activity.potentials(),
    )


def job_of(
    bench: Bench, groups: Groups, trial: Trial, compensator: Compensator | None = None
) -> Job:
    """Where a trial has to start, and what it changes.

    A weight that is refitted has lost columns, so no reader of it comes before the zeroed tensors'.
    """
    edits = edits_of(bench.program.root, groups.labels, trial.plan)
    reader = first_reader(bench.program, [edit.tensor for edit in edits])
    return Job(trial, edits, safe_start(bench.program, reader), compensator)


def measure(bench: Bench, job: Job, ran: Callable[[int], None]) -> Point:
    """The effect of one removal. ``ran`` is told the number of images after each forward."""
    activity, logs = Activity(), []
    compensator = job.compensator
    values = {} if compensator is None else compensator.values(job.trial.removal)
    with replaced(bench.program.root, values), zeroed(job.edits):
        for batch, images in enumerate(bench.sample.images):
            logs.append(_outputs(bench.program, bench.prefix, batch, job.start, activity))
            ran(len(images))
    pairs = zip(bench.dense_log, logs, strict=True)
    kl, kl_low, kl_high = mean_interval(torch.cat([kl_per_image(p, q) for p, q in pairs]))
    drop, drop_low, drop_high = None, None, None
    if bench.right is not None and bench.sample.labels is not None:
        drop, drop_low, drop_high = paired_drop(bench.right, _right(logs, bench.sample.labels))
    trial = job.trial
    return Point(
        tie=trial.tie,
        ratio=trial.ratio,
        removed=trial.removed,
        n=bench.sample.n,
        kl=kl,
        kl_low=kl_low,
        kl_high=kl_high,
        accuracy_drop=drop,
        accuracy_drop_low=drop_low,
        accuracy_drop_high=drop_high,
        rate_drift=drift(bench.rates, activity.rates()),
        potential_drift=drift(bench.potentials, activity.potentials()),
        saved=saved_between(bench.dense, bench.meter.measure(trial.removal)),
    )


def _outputs(
    program: Program, prefix: Prefix, batch: int, start: int, activity: Activity
) -> torch.Tensor:
    """Log-probabilities ``[B, K]`` of a batch, run from ``start`` to the end."""
    end = len(program.nodes)
    values = run(program, prefix.at(batch, start), start, end, activity)
    return log_probabilities(values[program.nodes[-1]], prefix.size(batch))


def _right(logs: list[torch.Tensor], labels: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return torch.cat([log.argmax(1) == y for log, y in zip(logs, labels, strict=True)])


def saved_between(before: Figures, after: Figures) -> dict[str, float]:
    """Unit -> figure before minus figure after, of every unit that both have."""
    saved = {}
    for unit, figure in SAVED.items():
        old, new = figure(before), figure(after)
        if old is not None and new is not None:
            saved[unit] = old - new
    return saved


def _check_forwards(root: nn.Module, sample: Sample) -> None:
    """Raise what a user can mend, before anything long starts."""
    classes = log_probabilities(_forward(root, sample.images[0]), len(sample.images[0])).shape[1]
    for labels in sample.labels or ():
        wrong = labels[(labels < 0) | (labels >= classes)]
        if len(wrong):
            raise DataError(
                f"a label is {int(wrong[0])}, but the model has {classes} classes "
                f"(0 to {classes - 1}): the data and the model do not belong together"
            )


def _forward(root: nn.Module, images: torch.Tensor) -> Any:
    reset_state(root)
    try:
        return root(images.clone())
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        dtype = str(images.dtype).removeprefix("torch.")
        raise ModelError(
            f"the model's forward fails on an input of shape {list(images.shape)}, {dtype}: {line}"
        ) from error
    finally:
        reset_state(root)


def _check_recording(graph: Graph, got: torch.Tensor, expected: torch.Tensor) -> None:
    if got.shape != expected.shape or not torch.allclose(got, expected, rtol=1e-4, atol=1e-6):
        fixed = f" ({'; '.join(graph.fixed)})" if graph.fixed else ""
        raise ModelError(
            f"the recording of the model does not reproduce it on batches of {len(expected)} "
            f"images{fixed}: capture it with an example of that batch size"
        )
