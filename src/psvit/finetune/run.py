"""Fine-tuning from start to end: teacher, data, loop, and what came of it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from psvit.artefacts import plan_of
from psvit.artefacts.save import digest
from psvit.errors import DataError, OptionError
from psvit.finetune.data import Split, split
from psvit.finetune.distill import Distillation
from psvit.finetune.norms import keeps_statistics, match_if_better
from psvit.finetune.resume import check_same_plan
from psvit.finetune.teacher import check_classes_alike, prepare_teacher
from psvit.finetune.tuning import CALIBRATION, Tuning, train_config
from psvit.records import Plan
from psvit.train import Score, Status, fast_neurons, find_devices, fit
from psvit.train.board import open_board
from psvit.train.config import total_steps
from psvit.train.loop import COMPILE_STEPS
from psvit.train.settle import like_trained_on, plain
from psvit.train.weights import lay_out, runs_channels_last

Line = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Tuned:
    """A fine-tuned model and how it came about.

    ``model``: the best weights on held-out images, in eval mode (the last where none are held
    out). ``teacher``: a copy of the dense model; None where labels alone taught. ``log``: a line a
    tenth of an epoch. ``images`` were trained on, ``held_out`` chose the weights;
    ``teacher_score`` is the teacher's on these. ``norms``: what batch norms computed with,
    statistics of each batch or frozen ones. ``matched``: how good the model is on the held-out
    images with statistics matched to the teacher's in the end; None where it kept others.
    """

    model: nn.Module
    teacher: nn.Module | None
    tuning: Tuning
    log: tuple[Line, ...]
    images: int
    held_out: int
    teacher_score: Score | None = None
    norms: str = "batch"
    matched: Score | None = None

    def summary(self) -> dict[str, Any]:
        """Plain data for metrics.json: settings, and of the log the ends of epochs."""
        judged = _judged(self.log)
        best = max(judged, key=lambda line: _score(line).rank, default=self.log[-1])
        kept = self.matched or _score(best)
        teacher = self.teacher_score
        return {
            "tuning": self.tuning.to_dict(),
            "norms": self.norms,
            "matched": self.matched is not None,
            "images": self.images,
            "held_out_images": self.held_out,
            "steps": self.log[-1]["step"],
            "seconds": self.log[-1]["seconds"],
            "loss": self.log[-1].get("loss"),
            "kept_step": best["step"],
            "kept_epoch": best["epoch"],
            "held_out_accuracy": kept.accuracy,
            "held_out_loss": kept.loss,
            "held_out_accuracy_at_start": judged[0].get("held_out_accuracy") if judged else None,
            "held_out_accuracy_of_teacher": None if teacher is None else teacher.accuracy,
            "log": [dict(line) for line in self.log if line in judged or line is self.log[-1]],
        }


def finetune(
    small: nn.Module,
    dense: nn.Module | None,
    data: Any,
    tuning: Tuning | None = None,
    *,
    plan: Plan | None = None,
    device: str | torch.device = "cpu",
    run: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    student: Mapping[str, Any] | None = None,
    progress: Callable[[Status], None] | None = None,
    note: Callable[[str], None] | None = None,
    **changes: Any,
) -> Tuned:
    """Train ``small`` in place to say what ``dense`` says; ``dense`` is not touched.

    ``data``: training images, with labels or without: what ``psvit.data.open_data`` gives, a
    DataLoader, or batches ``(images [B, C, H, W], labels [B])``. Batches of a DataLoader stay as
    they are, and the record says how many images they have. ``tuning``: see ``Tuning``, whose
    fields may also be given by name: ``finetune(small, dense, data, epochs=5)``. ``dense`` may be
    None where only labels teach (``label_weight=1``). ``plan``: which channels ``small`` has of
    ``dense``, if psvit did not prune or load it in this process.

    ``run``: a folder for checkpoints, the best and the last weights, the log (log.jsonl) and
    TensorBoard's. A call with the same arguments goes on from what a killed one left there;
    ``settings`` are more things that have to be the same. ``student`` says how ``small`` was made,
    if its weights may differ in their last bits the next time: they need not be the same then, as
    those of the checkpoint are gone on with. ``note`` is told what was done
    differently than expected. Under ``accelerate launch`` or ``torchrun`` all processes train as
    one; see ``psvit.train.devices``.

    Raises OptionError for settings that mean nothing or ask for labels or a teacher that is not
    there, ModelError for a teacher of other classes, CheckpointError for a ``run`` of another
    plan, OutputError for one of other settings, TrainingError for a loss that is no number.
    """
    tuning = _changed(tuning or Tuning(), changes)
    say = note or (lambda text: None)
    devices = find_devices(device)
    plan = plan or plan_of(small)
    parts = split(data, tuning)
    first = _checked(parts, tuning, dense, say)
    example, tuning = first[:2], dataclasses.replace(tuning, batch=len(first))
    teacher, classes = _teacher_of(small, dense, example, tuning, devices.device)
    home = next((t.device for t in small.parameters()), torch.device("cpu"))
    small.to(devices.device).requires_grad_(True)
    loss = Distillation(small, teacher, tuning, plan, devices.device)
    monitor = _monitor(loss, parts)
    teacher_score = None if teacher is None or monitor is None else monitor(teacher)
    _check_teacher(teacher_score, classes, say)
    what = {
        "plan": None if plan is None else digest(plan),
        "student": fingerprint(small) if student is None else dict(student),
        "teacher": None if dense is None or teacher is None else fingerprint(dense),
        "images": parts.train.images,
        "held_out": parts.images,
        "tuning": tuning.to_dict(),
        **(settings or {}),
    }
    folder = None if run is None else Path(run)
    if folder is not None:
        check_same_plan(folder, what["plan"])
    config = train_config(
        tuning,
        tuple(example.shape[1:]),
        parts.train.steps,
        channels_last=_channels_last(small, example, tuning, devices.device),
    )
    fresh = like_trained_on(parts.train, config, devices.device)
    if keeps_statistics(tuning.norms, small, monitor, fresh, devices):
        config = dataclasses.replace(config, frozen_norms=True, bn_batches=0)
    compiled = total_steps(config, parts.train.steps) >= COMPILE_STEPS
    with loss.active(compiled=compiled), open_board(folder, devices, say) as board:
        lines = fit(
            small,
            parts.train,
            config,
            out=folder,
            settings=what,
            loss=loss,
            monitor=monitor,
            best=parts.held_out is not None,
            progress=progress if devices.main else None,
            log=board,
            devices=devices,
        )
    matched = None
    if tuning.norms == "auto" and teacher is not None and plan is not None and monitor is not None:

        def as_in_training(model: nn.Module) -> Score:
            with loss.active(compiled=compiled), fast_neurons(model, compiled=compiled):
                return monitor(model)

        images = list(plain(parts.train, config, CALIBRATION))
        best = max(map(_score, _judged(lines)), key=lambda score: score.rank)
        matched = match_if_better(small, teacher, plan, images, as_in_training, best, devices)
    small.to(home)
    if teacher is not None:
        lay_out(teacher.to("cpu"), torch.contiguous_format)
    return Tuned(
        small,
        teacher,
        tuning,
        tuple(lines),
        parts.train.images,
        parts.images,
        teacher_score,
        "frozen" if config.frozen_norms else "batch",
        matched,
    )


def fingerprint(model: nn.Module) -> str:
    """SHA-256 over the names and bytes of a model's weights."""
    sha = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        sha.update(name.encode())
        sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return sha.hexdigest()


def _teacher_of(
    small: nn.Module,
    dense: nn.Module | None,
    example: torch.Tensor,
    tuning: Tuning,
    device: torch.device,
) -> tuple[nn.Module | None, int]:
    """A copy of ``dense`` that can teach ``small``, and how many classes both have."""
    if dense is None or not tuning.taught:
        return None, 0
    teacher = prepare_teacher(dense, device)
    classes = check_classes_alike(small, teacher, example)
    if _channels_last(teacher, example, tuning, device):
        lay_out(teacher, torch.channels_last)
    return teacher, classes


def _judged(log: Sequence[Line]) -> list[Line]:
    return [line for line in log if "held_out_loss" in line]


def _score(line: Line) -> Score:
    return Score(line.get("held_out_accuracy"), line.get("held_out_loss"))


def _changed(tuning: Tuning, changes: Mapping[str, Any]) -> Tuning:
    known = [field.name for field in dataclasses.fields(Tuning)]
    for name in changes:
        if name not in known:
            raise OptionError(
                f"fine-tuning: no setting is called {name!r}, expected one of {', '.join(known)}"
            )
    return dataclasses.replace(tuning, **changes)


def _checked(
    parts: Split, tuning: Tuning, dense: nn.Module | None, say: Callable[[str], None]
) -> torch.Tensor:
    """The first batch of images ``[B, C, H, W]``, if the data can do what is asked of them."""
    if tuning.label_weight and not parts.train.labelled:
        raise OptionError(
            f"fine-tuning: label weight is {tuning.label_weight:g}, but the data has no labels: "
            "set it to 0, and the dense model alone teaches"
        )
    if dense is None and tuning.taught:
        raise OptionError(
            "fine-tuning: there is no teacher: give the dense model, or label weight 1 without "
            "features, and labels alone teach"
        )
    if tuning.held_out and parts.held_out is None:
        say("nothing can be held out of this data, so the last weights are kept, not the best")
    images, _ = next(parts.train.epoch(tuning.seed, 0), (None, None))
    if images is None:
        raise DataError("the training data has no images")
    return images


def _monitor(loss: Distillation, parts: Split) -> Callable[[nn.Module], Score] | None:
    held_out = parts.held_out
    if held_out is None:
        return None
    return lambda model: loss.score(model, held_out(), labelled=parts.train.labelled)


def _channels_last(
    model: nn.Module, example: torch.Tensor, tuning: Tuning, device: torch.device
) -> bool:
    """Whether ``model`` computes with channels last: as presets of training do, if it can."""
    return (device.type == "cpu" or tuning.bf16) and runs_channels_last(model, example.to(device))


def _check_teacher(score: Score | None, classes: int, say: Callable[[str], None]) -> None:
    """A word where the teacher is no better than a guess."""
    if score is not None and score.accuracy is not None and score.accuracy <= 1 / classes:
        say(
            f"the teacher knows {score.accuracy:.1%} of the held-out images, which is no better "
            "than a guess: wrong preprocessing or weights are the usual cause"
        )
