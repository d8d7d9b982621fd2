"""The training loop: reference models from scratch, and fine-tuning of pruned ones.

A run is a function of its model, data and TrainConfig: the order of images, their augmentation
and the learning rate follow from the seed and the step number, everything else is in the
checkpoint. B batch, K classes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from psvit.errors import ModelError, PsvitError
from psvit.evaluate.accuracy import logits_of
from psvit.neurons import reset_state
from psvit.train.augment import augment, blend_labels, mixup, shrink
from psvit.train.batches import Batch, TrainingData
from psvit.train.bn import remeasure_bn
from psvit.train.checkpoint import Checkpoint, RunFolder
from psvit.train.config import TrainConfig, learning_rate, total_steps
from psvit.train.neuron import fast_neurons
from psvit.train.progress import Status

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(logits ``[B, K]``, labels ``[B]`` or probabilities ``[B, K]``, images) -> a scalar."""

Monitor = Callable[[nn.Module], float]
"""A model in eval mode -> its accuracy on images held out of training, in [0, 1]."""

CHECKPOINT_SECONDS = 120.0

COMPILE_STEPS = 500
"""Shorter runs are over before compiling the neurons has paid off."""


class TrainingError(PsvitError):
    """Training went wrong: the loss is no longer a number."""


def fit(
    model: nn.Module,
    data: TrainingData,
    config: TrainConfig,
    *,
    out: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    loss: Loss | None = None,
    monitor: Monitor | None = None,
    progress: Callable[[Status], None] | None = None,
    device: str | torch.device = "cpu",
) -> list[dict[str, Any]]:
    """Train ``model`` in place, leave it in eval mode, and return the log.

    With ``out``, checkpoint there every two minutes and every epoch, and resume what a killed
    call with the same ``settings`` (and config) left there. ``loss`` None: cross-entropy with
    label smoothing. ``monitor`` is called once an epoch. The caller's random state is restored.

    Raises OutputError for a folder of another run, TrainingError if the loss diverges.
    """
    folder = None
    if out is not None:
        folder = RunFolder(out, {**(settings or {}), "config": config.to_dict()})
    compiled = total_steps(config, data.steps) >= COMPILE_STEPS
    with torch.random.fork_rng(), fast_neurons(model, compiled=compiled):
        torch.manual_seed(config.seed)
        run = _Run(model, data, config, folder, loss, torch.device(device))
        run.resume()
        run.train(monitor, progress)
        run.finish()
    return run.lines


class _Run:
    """The state of a run between two steps; ``fit`` is the way in."""

    def __init__(
        self,
        model: nn.Module,
        data: TrainingData,
        config: TrainConfig,
        folder: RunFolder | None,
        loss: Loss | None,
        device: torch.device,
    ) -> None:
        self.model = model.to(device)
        if config.channels_last:
            _lay_out(model, torch.channels_last)
        self.data, self.config, self.folder, self.device = data, config, folder, device
        self.loss = loss if loss is not None else self._cross_entropy
        self.steps = total_steps(config, data.steps)
        self.step = 0
        self.optimizer = torch.optim.AdamW(_parameter_groups(model, config.weight_decay))
        self.ema = _copy(model) if config.ema else {}
        self.window = _empty_window()
        self.seconds = 0.0
        self.held_out: float | None = None
        self.lines: list[dict[str, Any]] = []

    def resume(self) -> None:
        """Go back to the last checkpoint, if there is one."""
        state = self.folder.load() if self.folder is not None else None
        if self.folder is None or state is None:
            return
        self.model.load_state_dict(state.model)
        self.optimizer.load_state_dict(dict(state.optimizer))
        self.ema = {k: v.to(self.device) for k, v in state.ema.items()}
        self.step, self.window, self.seconds = state.step, dict(state.window), state.seconds
        torch.set_rng_state(state.rng["cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state.rng["cuda"], self.device)
        self.lines = self.folder.read_log()

    def store(self) -> None:
        """Write a checkpoint."""
        if self.folder is None:
            return
        rng = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            rng["cuda"] = torch.cuda.get_rng_state(self.device)
        self.folder.store(
            Checkpoint(
                step=self.step,
                model=self.model.state_dict(),
                ema=self.ema,
                optimizer=self.optimizer.state_dict(),
                rng=rng,
                window=self.window,
                seconds=self.seconds,
                log_bytes=self.folder.log_bytes(),
            )
        )

    def train(self, monitor: Monitor | None, progress: Callable[[Status], None] | None) -> None:
        """Run the steps that are left."""
        per_epoch = self.data.steps
        log_steps = self.config.log_steps or per_epoch
        first, began = self.step, time.monotonic()
        stored, last = began, began
        self.model.train()
        for images, labels in self._batches():
            self._one_step(images, labels)
            self.step += 1
            now = time.monotonic()
            self.seconds += now - last
            last = now
            if progress is not None:
                speed = (self.step - first) / (now - began)
                progress(self._status(speed))
            end = self.step == self.steps
            epoch_over = self.step % per_epoch == 0 or end
            if epoch_over and monitor is not None:
                self.held_out = self._monitored(monitor)
            if self.step % log_steps == 0 or epoch_over:
                self._log()
            if epoch_over or now - stored > CHECKPOINT_SECONDS:
                self.store()
                stored = now
            last = time.monotonic() if epoch_over else last

    def _batches(self) -> Iterator[Batch]:
        """Batches of the steps left, over as many epochs as it takes."""
        while self.step < self.steps:
            epoch, start = divmod(self.step, self.data.steps)
            before = self.step
            for batch in self.data.epoch(self.config.seed, epoch, start):
                yield batch
                if self.step >= self.steps:
                    return
            if self.step == before:
                raise TrainingError("the training data gave no batch: is the data set empty?")

    def _one_step(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        config, how = self.config, self.config.augment
        images, labels = images.to(self.device), labels.to(self.device)
        # Seeded by the step's number, so that resuming needs no state of this generator.
        rng = np.random.default_rng((config.seed, 1, self.step))
        images = augment(images, how, rng, self.data.fill)
        early = self.step < config.early_share * self.steps
        if early and config.early_size:
            images = shrink(images, config.early_size)
        if how.mixup:
            images, partner, share = mixup(images, how.mixup, rng)
        reset_state(self.model)
        with (
            time_steps(self.model, config.early_T if early else 0),
            torch.autocast(self.device.type, torch.bfloat16, enabled=config.bf16),
        ):
            logits = logits_of(self.model, images).float()
        targets = labels
        if how.mixup:
            targets = blend_labels(labels, partner, share, logits.shape[1])
        loss = self.loss(logits, targets, images)
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss is {value} at step {self.step}: lower --lr, or switch bf16 off"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if config.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        rate = learning_rate(config, self.step, self.data.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        _move_average(self.ema, self.model, min(config.ema, (1 + self.step) / (10 + self.step)))
        self.window["steps"] += 1
        self.window["loss"] += value
        self.window["images"] += len(labels)
        self.window["correct"] += float((logits.argmax(1) == labels).sum())

    def _cross_entropy(
        self, logits: torch.Tensor, targets: torch.Tensor, images: torch.Tensor
    ) -> torch.Tensor:
        return F.cross_entropy(logits, targets, label_smoothing=self.config.label_smoothing)

    def _monitored(self, monitor: Monitor) -> float:
        """The monitor's word on the weights that would be kept if training ended here."""
        weights = _copy(self.model)
        try:
            if self.ema:
                self.model.load_state_dict(self.ema)
            return monitor(self.model.eval())
        finally:
            self.model.load_state_dict(weights)
            self.model.train()

    def _status(self, steps_per_second: float) -> Status:
        per_epoch, window = self.data.steps, self.window
        return Status(
            step=self.step,
            steps=self.steps,
            epoch=self.step / per_epoch,
            epochs=self.steps / per_epoch,
            loss=window["loss"] / window["steps"],
            accuracy=window["correct"] / window["images"],
            images_per_second=steps_per_second * window["images"] / window["steps"],
            seconds_left=(self.steps - self.step) / steps_per_second,
            held_out=self.held_out,
        )

    def _log(self) -> None:
        window = self.window
        line: dict[str, Any] = {
            "step": self.step,
            "epoch": round(self.step / self.data.steps, 4),
            "loss": window["loss"] / window["steps"],
            "accuracy": window["correct"] / window["images"],
            "lr": learning_rate(self.config, self.step - 1, self.data.steps),
            "seconds": round(self.seconds, 2),
        }
        if self.held_out is not None:
            line["held_out_accuracy"] = self.held_out
        self.lines.append(line)
        if self.folder is not None:
            self.folder.log(line)
        self.window = _empty_window()

    def finish(self) -> None:
        """Put the weights to keep into the model: averaged, with fresh batch-norm statistics."""
        if self.ema:
            self.model.load_state_dict(self.ema)
        if self.config.bn_batches:
            # An epoch that training never reaches: images as they are, in an order of their own.
            plain = self.data.epoch(self.config.seed, math.ceil(self.config.epochs) + 1)
            remeasure_bn(self.model, islice(plain, self.config.bn_batches), self.device)
        reset_state(self.model)
        if self.config.channels_last:
            _lay_out(self.model, torch.contiguous_format)
        self.model.eval()


@contextmanager
def time_steps(model: nn.Module, steps: int) -> Iterator[None]:
    """Within the block, repeat images over ``steps`` time steps; 0: as many as the model does."""
    own = getattr(model, "T", None)
    if steps and not isinstance(own, int):
        raise ModelError(
            "early_T changes the attribute T of the model, which has none: train it without early_T"
        )
    module: Any = model
    try:
        if steps:
            module.T = steps
        yield
    finally:
        if steps:
            module.T = own


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Biases and the parameters of norms do not decay."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _lay_out(model: Any, layout: torch.memory_format) -> None:
    model.to(memory_format=layout)  # torch's types know no such call


def _copy(model: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.detach().clone() for k, v in model.state_dict().items()}


def _move_average(ema: dict[str, torch.Tensor], model: nn.Module, decay: float) -> None:
    state = model.state_dict()
    for name, average in ema.items():
        if average.is_floating_point():
            average.lerp_(state[name].detach(), 1 - decay)
        else:
            average.copy_(state[name])


def _empty_window() -> dict[str, float]:
    return {"steps": 0.0, "loss": 0.0, "images": 0.0, "correct": 0.0}
