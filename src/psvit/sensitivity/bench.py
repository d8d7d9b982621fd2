"""The unpruned model with its images, ready to have removals tried on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
    Sums,
    added,
    drift,
    mean_interval,
    potentials,
    rates,
)
from psvit.sensitivity.looks import UNPRUNED, Look
from psvit.sensitivity.memory import divide
from psvit.sensitivity.sample import Sample
from psvit.sensitivity.trials import Trial

SAVED: Mapping[str, Callable[[Figures], float | None]] = {
    "memory": lambda figures: figures.memory_bytes,
    "params": lambda figures: figures.params,
    "macs": lambda figures: figures.macs,
    "sops": lambda figures: figures.sops,
    "energy": lambda figures: figures.energy_pj,
    "latency": lambda figures: figures.latency_ms,
}
"""Units of what is saved; one that the cost model does not measure is left out."""


@dataclass(frozen=True, eq=False)
class Dense:
    """What the unpruned model does with a batch of images.

    ``logs``: log-probabilities ``[B, K]``. ``right``: which images it classifies correctly, None
    without labels. ``activity``: of its neuron layers.
    """

    logs: torch.Tensor
    right: torch.Tensor | None
    activity: Sums


@dataclass(frozen=True, eq=False)
class Bench:
    """A private copy of the model, its images, and what it does unpruned with each batch so far."""

    graph: Graph
    program: Program
    prefix: Prefix
    sample: Sample
    meter: Meter
    whole: Figures
    known: dict[int, Dense] = field(default_factory=dict)

    def dense(self, batch: int) -> Dense:
        """What the unpruned model does with a batch: run when it is first asked for.

        Raises ModelError where the recording does not reproduce the model on that many images.
        """
        if batch not in self.known:
            self.known[batch] = self._run_dense(batch)
        return self.known[batch]

    def look(self, batch: int) -> Look:
        """The same, as a journal keeps it."""
        dense = self.dense(batch)
        right = None if dense.right is None else tuple(dense.right.tolist())
        return Look(UNPRUNED, 0, batch, (0.0,) * self.prefix.size(batch), right, dense.activity)

    def figures(self, looks: Sequence[Look]) -> Figures:
        """Figures of the unpruned model; accuracy on the images that it was run on."""
        n = sum(len(look.kl) for look in looks)
        right = [one for look in looks for one in look.right or ()]
        if not right:
            return replace(self.whole, n=n)
        correct = sum(right)
        low, high = wilson(correct, n)
        return replace(self.whole, n=n, accuracy=correct / n, accuracy_low=low, accuracy_high=high)

    def _run_dense(self, batch: int) -> Dense:
        images, labels = self.sample.images[batch], self.sample.labels
        new = len(images) not in {len(self.sample.images[other]) for other in self.known}
        activity = Activity()
        logs = _outputs(self.program, self.prefix, batch, 0, activity)
        if new:
            self.prefix.at(batch, 0)  # the same random numbers again
            expected = log_probabilities(_forward(self.program.root, images), len(images))
            _check_recording(self.graph, logs, expected)
        right = None if labels is None else logs.argmax(1) == labels[batch]
        return Dense(logs, right, activity.sums())


@dataclass(frozen=True, eq=False)
class Job:
    """A trial, what it zeroes, and the position from which the model has to be run again.

    ``batch``: of images, that it is looked at on. ``compensator``: what refits the weights that
    lose inputs, if anything does.
    """

    trial: Trial
    edits: tuple[Edit, ...]
    start: int
    batch: int = 0
    compensator: Compensator | None = None

    @property
    def key(self) -> tuple[int, int, int]:
        """Under which the journal keeps the look."""
        return self.trial.tie, self.trial.removed, self.batch

    @property
    def order(self) -> tuple[int, int, int]:
        """Jobs of a batch in ascending order let the prefix only move on."""
        return self.start, self.trial.tie, self.trial.removed


def set_up(
    graph: Graph,
    meter: Meter,
    sample: Sample,
    seed: int,
    device: torch.device,
    memory_limit: int | None = None,
) -> Bench:
    """Copy the model to ``device``, and run it unpruned on a few images.

    ``memory_limit``: bytes that forwards and what is kept of them may take; see ``memory``. Raises
    ModelError if the forward fails or the recording does not reproduce it, DataError for labels
    that are no classes of the model, OptionError for a limit that is too low.
    """
    root = private_copy(graph.module).to(device).eval()
    sample = sample.to(device)
    few = sample.images[0][: graph.inputs[0].shape[0]]
    classes = log_probabilities(_forward(root, few), len(few)).shape[1]
    program = prepare_program(root, graph.forwards["eval"], (few,))
    room = None
    if memory_limit is not None:
        most, room = divide(program, sample.images[0], memory_limit)
        if most < max(len(x) for x in sample.images):
            sample = sample.cut([_images(sample, look) for look in sample.all_looks], most)
    prefix = Prefix(program, sample.images, seed, room)
    for labels in sample.labels or ():
        _check_labels(labels, classes)
    return Bench(graph, program, prefix, sample, meter, meter.measure({}))


def _images(sample: Sample, look: range) -> int:
    return sum(len(sample.images[batch]) for batch in look)


def job_of(
    bench: Bench, groups: Groups, trial: Trial, compensator: Compensator | None = None
) -> Job:
    """Where a trial has to start, and what it changes.

    A weight that is refitted has lost columns, so no reader of it comes before the zeroed tensors'.
    """
    edits = edits_of(bench.program.root, groups.labels, trial.plan)
    reader = first_reader(bench.program, [edit.tensor for edit in edits])
    return Job(trial, edits, safe_start(bench.program, reader), 0, compensator)


def measure(bench: Bench, job: Job, ran: Callable[[int], None]) -> Look:
    """One look at one removal. ``ran`` is told the number of images."""
    batch, labels = job.batch, bench.sample.labels
    bench.prefix.keep_only((batch,))
    dense = bench.dense(batch)
    activity, compensator = Activity(), job.compensator
    values = {} if compensator is None else compensator.values(job.trial.removal)
    with replaced(bench.program.root, values), zeroed(job.edits):
        logs = _outputs(bench.program, bench.prefix, batch, job.start, activity)
    ran(len(bench.sample.images[batch]))
    return Look(
        tie=job.trial.tie,
        removed=job.trial.removed,
        batch=batch,
        kl=tuple(kl_per_image(dense.logs, logs).tolist()),
        right=None if labels is None else tuple((logs.argmax(1) == labels[batch]).tolist()),
        activity=activity.sums(),
    )


def point_of(bench: Bench, trial: Trial, dense: Sequence[Look], looks: Sequence[Look]) -> Point:
    """The effect of one removal, of all looks at it; ``dense``: unpruned, at the same batches."""
    kl, kl_low, kl_high = mean_interval(torch.tensor(kl_of(looks), dtype=torch.float64))
    drop, drop_low, drop_high = None, None, None
    was = [one for look in dense for one in look.right or ()]
    if was:
        is_now = [one for look in looks for one in look.right or ()]
        drop, drop_low, drop_high = paired_drop(torch.tensor(was), torch.tensor(is_now))
    before = added([one.activity for one in dense])
    after = added([look.activity for look in looks])
    return Point(
        tie=trial.tie,
        ratio=trial.ratio,
        removed=trial.removed,
        n=sum(len(look.kl) for look in looks),
        kl=kl,
        kl_low=kl_low,
        kl_high=kl_high,
        accuracy_drop=drop,
        accuracy_drop_low=drop_low,
        accuracy_drop_high=drop_high,
        rate_drift=drift(rates(before), rates(after)),
        potential_drift=drift(potentials(before), potentials(after)),
        saved=saved_between(bench.whole, bench.meter.measure(trial.removal)),
    )


def kl_of(looks: Sequence[Look]) -> list[float]:
    """The divergence of each image looked at."""
    return [value for look in looks for value in look.kl]


def _outputs(
    program: Program, prefix: Prefix, batch: int, start: int, activity: Activity
) -> torch.Tensor:
    """Log-probabilities ``[B, K]`` of a batch, run from ``start`` to the end."""
    end = len(program.nodes)
    values = run(program, prefix.at(batch, start), start, end, activity)
    return log_probabilities(values[program.nodes[-1]], prefix.size(batch))


def saved_between(before: Figures, after: Figures) -> dict[str, float]:
    """Unit -> figure before minus figure after, of every unit that both have."""
    saved = {}
    for unit, figure in SAVED.items():
        old, new = figure(before), figure(after)
        if old is not None and new is not None:
            saved[unit] = old - new
    return saved


def _check_labels(labels: torch.Tensor, classes: int) -> None:
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
