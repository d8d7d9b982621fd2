"""What all results of a comparison have in common, and how one of them is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from psvit.allocate import allocate, pose
from psvit.calibrate import Compensator, calibrate
from psvit.capture.copying import private_copy
from psvit.compare.cells import CONTROL, DENSE, Cell, judged
from psvit.compare.levels import Budget
from psvit.compare.masks import mask_smallest
from psvit.compare.rows import Row
from psvit.cost import Meter, prepare
from psvit.errors import DataError
from psvit.groups import removal_of
from psvit.guidance import Guidance, ranking_images
from psvit.records import Graph, Groups, Plan, Scores
from psvit.recover import COMPENSATED, Origin, calibration_images
from psvit.recover import recover as run_recovery
from psvit.rewrite import rewrite
from psvit.saliency import FROM_DATA, obs_scores
from psvit.saliency import saliency as score

Evaluate = Callable[[nn.Module], torch.Tensor]
"""Which evaluation images a model gets right, bool ``[n]``."""


@dataclass(frozen=True, eq=False)
class Job:
    """A model, its training images, how to evaluate, and the choices that hold for every method.

    ``ranked`` holds rankings already computed, and the seconds that they took; ``looked`` what the
    layers of the dense model read, once it is known.
    """

    model: nn.Module
    graph: Graph
    groups: Groups
    train: list[Any]
    evaluate: Evaluate
    saliency: str
    recover: str
    n: int
    seed: int
    align: int
    device: torch.device
    clock: Callable[[], float]
    ranked: dict[str, tuple[Scores, float]] = field(default_factory=dict)
    looked: list[Compensator] = field(default_factory=list)

    @property
    def images(self) -> list[torch.Tensor]:
        """What recovery and compensation look at."""
        return calibration_images(self.train)

    def dense(self) -> Compensator:
        """What every layer of the dense model reads, looked at once."""
        if not self.looked:
            self.looked.append(
                calibrate(self.graph, self.groups, self.images, seed=self.seed, device=self.device)
            )
        return self.looked[0]

    def compensator(self) -> Compensator | None:
        """What smaller models are refitted by wherever they are measured, if they are."""
        return self.dense() if self.recover in COMPENSATED else None

    def ranking(self, name: str) -> tuple[Scores, float]:
        """The ranking by a saliency, computed once, and the seconds that it took."""
        if name not in self.ranked:
            start = self.clock()
            self.ranked[name] = self._scores(name), self.clock() - start
        return self.ranked[name]

    def _scores(self, name: str) -> Scores:
        if name == "obs":
            return obs_scores(self.dense())
        looked_at = None
        if name in FROM_DATA:
            looked_at = ranking_images(self.train, self.n, self.seed, bounded=False)
        return score(
            self.graph, self.groups, name, self.seed, data=looked_at, n=self.n, device=self.device
        )

    def recovered(self, model: nn.Module, plan: Plan | None = None) -> nn.Module:
        """The model itself, after the recovery that all get; ``plan``: what it was cut by."""
        if self.recover == "none":
            return model
        origin = None
        if plan is not None:
            origin = Origin(
                self.graph, self.groups, plan, self.compensator(), self.device, self.seed
            )
        return run_recovery(model, self.images, self.recover, origin)


def unpruned(job: Job, name: str) -> Cell:
    """The model before pruning, as it is (DENSE) or after the recovery (CONTROL)."""
    start = job.clock()
    model = job.model if name == DENSE else job.recovered(private_copy(job.model))
    seconds = job.clock() - start if name == CONTROL else 0.0
    figures = prepare(job.graph, job.groups).measure({})
    return judged(name, {}, figures, job.evaluate(model), seconds)


def pruned(job: Job, guidance: Guidance, row: Row, budget: Budget) -> Cell:
    """What a method makes of the model at a budget."""
    meter = guidance.meter or prepare(job.graph, job.groups)
    if row.method is None:
        return _masked(job, meter, row, budget)
    scores, ranking_s = job.ranking(row.saliency or job.saliency)
    start = job.clock()
    plan = allocate(
        job.graph,
        job.groups,
        scores,
        budget,
        row.method,
        job.align,
        curves=guidance.curves if row.guided else None,
        meter=guidance.meter,
        measure_loss=guidance.measure_loss if row.method == "optimal" else None,
        judge_loss=guidance.judge_loss,
    )
    small = job.recovered(rewrite(job.graph, plan), plan)
    seconds = job.clock() - start + ranking_s
    figures = meter.measure(removal_of(job.graph, plan))
    return judged(row.name, budget, figures, job.evaluate(small), seconds)


def _masked(job: Job, meter: Meter, row: Row, budget: Budget) -> Cell:
    """Masks at the share of memory or parameters that the budget asks to save."""
    start = job.clock()
    scores, _ = job.ranking(job.saliency)
    goals = pose(job.graph, job.groups, scores, budget, job.align, meter=meter).goals
    share = max(goal for unit, goal in goals.items() if unit in ("memory", "params"))
    masked, zeroed = mask_smallest(job.model, share)
    masked = job.recovered(masked)
    seconds = job.clock() - start
    return judged(row.name, budget, meter.measure({}), job.evaluate(masked), seconds, zeroed)


def held(data: Iterable[Any], most: int) -> list[Any]:
    """The first batches of training data, with ``most`` images or a batch more, in memory."""
    batches, count = [], 0
    for batch in data:
        images = batch[0] if isinstance(batch, tuple | list) and batch else batch
        if not isinstance(images, torch.Tensor) or not images.ndim:
            raise DataError(
                f"the data yields a {type(batch).__name__}: expected (images, labels), two tensors"
            )
        batches.append(batch)
        count += len(images)
        if count >= most:
            break
    return batches
