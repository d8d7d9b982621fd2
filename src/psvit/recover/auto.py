"""Try recoveries one after the other, and keep what helps on images that none was fitted on.

A fit to calibration images may chase their noise, and batch-norm statistics of few images may be
worse than stale ones. So a quarter of the images is held out, and a step is kept only if it brings
the model's outputs there nearer to the dense model's, by the mean KL divergence.

Which dense model: as it is, or after batch-norm re-estimation? Statistics that lag behind the
weights cost it accuracy, but good ones, of a whole training set, are better than new ones of a
thousand images. Without labels the two are told apart by what chance does (ours): statistics of
either half of the images differ by chance alone, and so move the outputs. If re-estimation on all
of them moves the dense model's outputs by more, its statistics are stale, and the dense model
after re-estimation is the teacher and the control. Else it is the dense model as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from psvit.calibrate import calibrate
from psvit.errors import DataError, ModelError
from psvit.groups import make_plan
from psvit.outputs import kl_per_image, predict
from psvit.recover.bn import pool, reestimate
from psvit.recover.least_squares import RIDGE
from psvit.recover.lsq import Fit, lsq
from psvit.recover.origin import Origin
from psvit.recover.record import Record, Tried
from psvit.rewrite import rewrite

HELD_OUT = 0.25
"""Share of the calibration images that judge."""

DRAW = 10.0
"""The ridge of lsq that starts from compensated weights. They are good, and the inputs that the
pruned model really has are the dense model's with noise: a fit to them shrinks every direction but
the strongest, so it may change those alone. ``docs/recovery.md`` has what other values do."""

Step = Callable[[Origin, Mapping[str, torch.Tensor], Sequence[torch.Tensor]], Fit]
"""New values of the dense model's tensors, of full size, from those kept so far and images."""


def compensate(
    origin: Origin, start: Mapping[str, torch.Tensor], images: Sequence[torch.Tensor]
) -> Fit:
    """The covariance compensation of ``psvit.calibrate``, from moments of these images alone."""
    graph, groups = origin.graph, origin.groups
    dense = calibrate(graph, groups, images, seed=origin.seed, device=origin.device)
    return Fit(dense.values(origin.removal), dense.moments.notes)


def refit(origin: Origin, start: Mapping[str, torch.Tensor], images: Sequence[torch.Tensor]) -> Fit:
    """Sequential least squares of ``psvit.recover.lsq``, from the weights kept so far."""
    return lsq(
        origin.graph,
        origin.groups,
        origin.removal,
        images,
        start=start,
        ridge=DRAW if start else RIDGE,
        seed=origin.seed,
        device=origin.device,
    )


STEPS: Mapping[str, Step] = {"obs": compensate, "lsq": refit}
"""In this order, after bn: re-estimated statistics."""


def auto(
    model: nn.Module,
    images: Sequence[torch.Tensor],
    origin: Origin | None,
    steps: Mapping[str, Step] = STEPS,
) -> Record:
    """Recover ``model``, which was cut as ``origin`` says, in place, by the steps that help.

    First bn, then each of ``steps``, alone and followed by bn; the better of both is kept if the
    held-out KL divergence is below the least so far. ``images``: batches ``[B, C, H, W]``, of which
    the last quarter is held out. Without an origin the model is a dense one, and its statistics
    are re-estimated if they are stale. A step that the model does not allow is left out with a
    note. Raises DataError for fewer than two images, or images that are not finite.
    """
    has_norms = any(isinstance(m, _BatchNorm) and m.track_running_stats for m in model.modules())
    fitted, held = split(images)
    if origin is None:
        return control(model, images, stale=has_norms and _Teacher.of(model, fitted, held).stale)
    trial = _Trial.of(model, origin, fitted, held, has_norms)
    best = _State(trial.kl({}, bn=False))
    tried: list[Tried] = []
    notes: list[str] = []
    for name in ["bn", *steps] if has_norms else steps:
        before, start = best, perf_counter()
        try:
            fit = Fit(best.values) if name == "bn" else steps[name](origin, best.values, fitted)
        except ModelError as error:
            notes.append(f"recovery {name} is left out: {error}")
            continue
        notes += [note for note in fit.notes if note not in notes]
        choices = [True] if name == "bn" else [False, True] if has_norms else [False]
        states = [_State(trial.kl(fit.tensors, bn=bn), bn, fit.tensors) for bn in choices]
        found = min(states, key=lambda state: state.kl)
        best = found if found.kl < before.kl else before
        seconds = perf_counter() - start
        tried.append(Tried(name, before.kl, found.kl, best is found, found.bn, seconds))
    trial.settle(best.values, bn=best.bn)
    return Record(
        images=sum(len(batch) for batch in fitted),
        held_out=sum(len(batch) for batch in held),
        kl_dense=trial.teacher.moved,
        stale=trial.teacher.stale,
        steps=tuple(tried),
        notes=tuple(notes),
    )


def control(model: nn.Module, images: Sequence[torch.Tensor], *, stale: bool) -> Record:
    """What ``auto`` does to a dense ``model``, in place: re-estimated statistics for stale ones.

    ``images`` and what is raised: as for ``auto``.
    """
    return Record(_reestimated(model, split(images)[0]) if stale else 0)


def split(
    images: Sequence[torch.Tensor],
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The images to fit on, and those held out: whole batches, or parts of the only one."""
    batches = [batch for batch in images if len(batch)]
    total = sum(len(batch) for batch in batches)
    if total < 2:
        raise DataError(
            f"recovery auto judges on images that it holds out: expected at least 2 calibration "
            f"images, got {total}"
        )
    if len(batches) == 1:
        most = min(len(batches[0]) - 1, round(len(batches[0]) * (1 - HELD_OUT)))
        return [batches[0][:most]], [batches[0][most:]]
    count = max(1, round(len(batches) * HELD_OUT))
    return batches[:-count], batches[-count:]


@dataclass(frozen=True, eq=False)
class _State:
    """What has been kept: weights, whether statistics were taken again, and the KL divergence."""

    kl: float
    bn: bool = False
    values: Mapping[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Teacher:
    """What the dense model says on held-out images, as log-probabilities ``[N, K]``.

    ``moved``: KL divergence, in nats an image, between the dense model after re-estimation and as
    it is; ``chance``: between re-estimations on either half of the images. Both 0 without norms.
    """

    logs: torch.Tensor
    moved: float = 0.0
    chance: float = 0.0

    @property
    def stale(self) -> bool:
        """Whether statistics differ from those of the images by more than chance."""
        return self.moved > self.chance

    @staticmethod
    def of(
        dense: nn.Module,
        fitted: Sequence[torch.Tensor],
        held: Sequence[torch.Tensor],
        device: str | torch.device | None = None,
    ) -> _Teacher:
        """The better of both dense models; ``dense`` is as before afterwards."""
        place = device or next(dense.parameters()).device
        pairs = [(batch,) for batch in held]
        before = {name: value.clone() for name, value in dense.state_dict().items()}
        as_it_is = predict(dense, pairs, place)

        halves, states = [], []
        try:
            for half in _halves(fitted):
                _reestimated(dense, half)
                states.append({name: value.clone() for name, value in dense.state_dict().items()})
                halves.append(predict(dense, pairs, place))
            if len(fitted) > 1:
                pool(dense, states)
            else:  # a norm in train mode sees a batch as a whole: its parts do not add up to it
                _reestimated(dense, fitted)
            whole = predict(dense, pairs, place)
        finally:
            dense.load_state_dict(before)
        moved = float(kl_per_image(whole, as_it_is).mean())
        chance = float(kl_per_image(*halves).mean())
        return _Teacher(whole if moved > chance else as_it_is, moved, chance)


def _halves(images: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Batches in two parts, of about as many images."""
    if len(images) == 1:
        middle = len(images[0]) // 2
        return [images[0][:middle]], [images[0][middle:]]
    middle = len(images) // 2
    return list(images[:middle]), list(images[middle:])


def _reestimated(model: nn.Module, images: Sequence[torch.Tensor]) -> int:
    home = next(model.parameters()).device
    return reestimate(model, [batch.to(home) for batch in images])


@dataclass(frozen=True, eq=False)
class _Trial:
    """A cut model that weights are tried on. ``before``: its tensors as they were."""

    model: nn.Module
    origin: Origin
    fitted: Sequence[torch.Tensor]
    held: Sequence[torch.Tensor]
    before: Mapping[str, torch.Tensor]
    teacher: _Teacher

    @staticmethod
    def of(
        model: nn.Module,
        origin: Origin,
        fitted: Sequence[torch.Tensor],
        held: Sequence[torch.Tensor],
        has_norms: bool,
    ) -> _Trial:
        whole = rewrite(origin.graph, make_plan(origin.graph, origin.groups, {}))
        if has_norms and sum(len(batch) for batch in fitted) > 1:
            teacher = _Teacher.of(whole, fitted, held, origin.device)
        else:
            teacher = _Teacher(_predict(whole, held, origin))
        before = {name: value.clone() for name, value in model.state_dict().items()}
        return _Trial(model, origin, fitted, held, before, teacher)

    def settle(self, values: Mapping[str, torch.Tensor], *, bn: bool) -> None:
        """Put these weights into the model as it was, and take statistics again."""
        self.model.load_state_dict(dict(self.before))
        self.origin.put(self.model, values)
        if bn:
            _reestimated(self.model, self.fitted)

    def kl(self, values: Mapping[str, torch.Tensor], *, bn: bool) -> float:
        """The held-out KL divergence of the model with these weights."""
        self.settle(values, bn=bn)
        got = _predict(self.model, self.held, self.origin)
        return float(kl_per_image(self.teacher.logs, got).mean())


def _predict(model: nn.Module, held: Sequence[torch.Tensor], origin: Origin) -> torch.Tensor:
    return predict(model, [(batch,) for batch in held], origin.device)
