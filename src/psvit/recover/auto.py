"""Try recoveries one after the other, and keep what helps on images that none was fitted on.

A fit to calibration images may chase their noise. So a quarter of the images is held out, and a
step is kept only if it brings the model's outputs there nearer to the dense model's, by the mean KL
divergence.

Batch-norm statistics are not taken again but moved, as far as pruning has moved the activations
(``psvit.recover.matching``): those of the dense model are of a whole training set, augmented as
its weights are used to, and better than any that a thousand plain images give.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import torch
from torch import nn

from psvit.calibrate import calibrate
from psvit.errors import DataError, ModelError
from psvit.groups import make_plan
from psvit.outputs import kl_per_image, predict
from psvit.recover.bn import norms_of
from psvit.recover.least_squares import RIDGE
from psvit.recover.lsq import Fit, lsq
from psvit.recover.matching import Norms, match_norms, watch_norms
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
"""In this order, after bn: matched statistics."""


def auto(
    model: nn.Module,
    images: Sequence[torch.Tensor],
    origin: Origin | None,
    steps: Mapping[str, Step] = STEPS,
) -> Record:
    """Recover ``model``, which was cut as ``origin`` says, in place, by the steps that help.

    First bn, matched statistics, then each of ``steps``, alone and followed by bn; the better of
    both is kept if the held-out KL divergence is below the least so far. ``images``: batches
    ``[B, C, H, W]``, of which the last quarter is held out. Without an origin the model is a dense
    one, a control: nothing was lost, and nothing changes. A step that the model does not allow is
    left out with a note. Raises DataError for fewer than two images, or images that are not finite.
    """
    if origin is None:
        return Record(0)
    has_norms = bool(norms_of(model))
    fitted, held = split(images)
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
        steps=tuple(tried),
        notes=tuple(notes),
    )


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
    """What has been kept: weights, whether statistics were matched, and the KL divergence."""

    kl: float
    bn: bool = False
    values: Mapping[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Trial:
    """A cut model that weights are tried on.

    ``before``: its tensors as they were. ``norms``: the dense model's, on the images to fit on;
    None without any. ``teacher``: what the dense model says on held-out images, as
    log-probabilities ``[N, K]``.
    """

    model: nn.Module
    origin: Origin
    fitted: Sequence[torch.Tensor]
    held: Sequence[torch.Tensor]
    before: Mapping[str, torch.Tensor]
    norms: Norms | None
    teacher: torch.Tensor

    @staticmethod
    def of(
        model: nn.Module,
        origin: Origin,
        fitted: Sequence[torch.Tensor],
        held: Sequence[torch.Tensor],
        has_norms: bool,
    ) -> _Trial:
        dense = rewrite(origin.graph, make_plan(origin.graph, origin.groups, {}))
        before = {name: value.clone() for name, value in model.state_dict().items()}
        teacher = _predict(dense, held, origin)
        norms = watch_norms(dense, _beside(dense, fitted)) if has_norms else None
        return _Trial(model, origin, fitted, held, before, norms, teacher)

    def settle(self, values: Mapping[str, torch.Tensor], *, bn: bool) -> None:
        """Put these weights into the model as it was, and match statistics."""
        self.model.load_state_dict(dict(self.before))
        self.origin.put(self.model, values)
        if bn and self.norms is not None:
            images = _beside(self.model, self.fitted)
            match_norms(self.model, images, self.norms, self.origin.cut)

    def kl(self, values: Mapping[str, torch.Tensor], *, bn: bool) -> float:
        """The held-out KL divergence of the model with these weights."""
        self.settle(values, bn=bn)
        got = _predict(self.model, self.held, self.origin)
        return float(kl_per_image(self.teacher, got).mean())


def _predict(model: nn.Module, held: Sequence[torch.Tensor], origin: Origin) -> torch.Tensor:
    return predict(model, [(batch,) for batch in held], origin.device)


def _beside(model: nn.Module, images: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The images where the model is."""
    home = next(model.parameters()).device
    return [batch.to(home) for batch in images]
