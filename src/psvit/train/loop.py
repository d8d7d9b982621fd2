"""The training loop: reference models from scratch, and fine-tuning of pruned ones.

A run is a function of its model, data and TrainConfig: the order of images, their augmentation
and the learning rate follow from the seed and the step number, everything else is in the
checkpoint. B batch, K classes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from psvit.errors import DataError, OptionError, TrainingError
from psvit.evaluate.accuracy import logits_of
from psvit.neurons import reset_state
from psvit.recover import norms_of, reestimate
from psvit.train.augment import augment, blend_labels, mix, shrink
from psvit.train.batches import Batch, TrainingData
from psvit.train.checkpoint import BEST, LAST, Checkpoint, RunFolder
from psvit.train.compiled import compiled
from psvit.train.config import TrainConfig, learning_rate, total_steps
from psvit.train.devices import Devices
from psvit.train.neuron import fast_neurons, traceable_neurons
from psvit.train.progress import Status
from psvit.train.randaugment import check_randaugment
from psvit.train.score import Score
from psvit.train.settle import like_trained_on
from psvit.train.timing import time_constant, time_steps
from psvit.train.weights import copied, lay_out, move_average, parameter_groups

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(logits ``[B, K]``, labels ``[B]`` or probabilities ``[B, K]``, images) -> a scalar."""

Monitor = Callable[[nn.Module], Score]
"""A model in eval mode -> how good it is on images held out of training."""

Line = Mapping[str, Any]
"""A line of the log."""

CHECKPOINT_SECONDS = 120.0

COMPILE_STEPS = 500
"""Shorter runs are over before compiling the neurons has paid off."""


def fit(
    model: nn.Module,
    data: TrainingData,
    config: TrainConfig,
    *,
    out: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    loss: Loss | None = None,
    monitor: Monitor | None = None,
    best: bool = False,
    progress: Callable[[Status], None] | None = None,
    log: Callable[[Line], None] | None = None,
    device: str | torch.device = "cpu",
    devices: Devices | None = None,
) -> list[dict[str, Any]]:
    """Train ``model`` in place, leave it in eval mode, and return the log.

    With ``out``, checkpoint there every two minutes and every epoch, and resume what a killed
    call with the same ``settings`` (and config) left there. ``loss`` None: cross-entropy with
    label smoothing. ``monitor`` is called once an epoch; with ``best`` it chooses, of the weights
    at the start and after each epoch, those that are kept. ``log`` hears every line of the log, of
    a resumed run from the first one on. ``devices``: several of them, in place of ``device``. The
    caller's random state is restored.

    Raises OutputError for a folder of another run, TrainingError if the loss diverges, DataError
    for images that are not finite, OptionError if there are fewer images in a batch than devices.
    """
    devices = devices or Devices(torch.device(device))
    if config.augment.rand:
        check_randaugment(data.span)
    if config.batch < devices.count:
        raise OptionError(
            f"training: a batch of {config.batch} images is too small for {devices.count} devices"
        )
    folder = None
    if out is not None:
        if not devices.main:
            devices.wait()  # for the one that makes the folder
        defaults = {"config": TrainConfig().to_dict()}
        folder = RunFolder(out, {**(settings or {}), "config": config.to_dict()}, defaults)
        if devices.main:
            devices.wait()
    model.to(devices.device)
    long = total_steps(config, data.steps) >= COMPILE_STEPS
    neurons = traceable_neurons(model) if config.compile else fast_neurons(model, compiled=long)
    with torch.random.fork_rng(), neurons:
        torch.manual_seed(config.seed + devices.rank)
        run = _Run(model, data, config, folder, loss, devices, monitor if best else None)
        run.resume(log)
        devices.wait()
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
        devices: Devices,
        judge: Monitor | None,
    ) -> None:
        self.model = model.to(devices.device)
        if config.channels_last:
            lay_out(model, torch.channels_last)
        self.forward = compiled(model, devices.device) if config.compile else model
        self.data, self.config, self.folder = data, config, folder
        self.devices, self.device, self.judge = devices, devices.device, judge
        self.loss = loss if loss is not None else self._cross_entropy
        self.steps = total_steps(config, data.steps)
        self.step = 0
        self.optimizer = torch.optim.AdamW(
            parameter_groups(model, config.weight_decay), fused=self.device.type == "cuda"
        )
        self.ema = copied(model) if config.ema else {}
        self.window = _empty_window()
        self.seconds = 0.0
        self.held_out: Score | None = None
        self.best: Score | None = None
        self.best_model: Mapping[str, torch.Tensor] = {}
        self.lines: list[dict[str, Any]] = []
        self.listener: Callable[[Line], None] | None = None

    def resume(self, log: Callable[[Line], None] | None) -> None:
        """Go back to the last checkpoint, if there is one."""
        state = self.folder.load() if self.folder is not None else None
        self.listener = log
        if self.folder is None or state is None:
            return
        self.model.load_state_dict(state.model)
        self.optimizer.load_state_dict(dict(state.optimizer))
        self.ema = {k: v.to(self.device) for k, v in state.ema.items()}
        self.step, self.window, self.seconds = state.step, dict(state.window), state.seconds
        self.best_model = state.best_model
        self.best = None if state.best is None else Score(**state.best)
        if self.devices.main:  # the others go on with random states of their own
            torch.set_rng_state(state.rng["cpu"])
            if self.device.type == "cuda":
                torch.cuda.set_rng_state(state.rng["cuda"], self.device)
        self.lines = self.folder.read_log()
        if log is not None:
            for line in self.lines:
                log(line)

    def store(self) -> None:
        """Write a checkpoint."""
        if self.folder is None or not self.devices.main:
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
                best=None if self.best is None else vars(self.best),
                best_model=self.best_model,
            )
        )

    def train(self, monitor: Monitor | None, progress: Callable[[Status], None] | None) -> None:
        """Run the steps that are left."""
        per_epoch = self.data.steps
        log_steps = self.config.log_steps or per_epoch
        first, began = self.step, time.monotonic()
        stored, last = began, began
        if self.judge is not None and self.step == 0 and not self.lines:
            self._judge(self.judge, settle=False)
            self._log(judged=True)
        self._train_mode()
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
            if epoch_over and self.judge is not None:
                self._judge(self.judge)
            elif epoch_over and monitor is not None:
                self.held_out = self._monitored(monitor)
            if self.step % log_steps == 0 or epoch_over:
                self._log(judged=epoch_over)
            if epoch_over or now - stored > CHECKPOINT_SECONDS:
                self.store()
                stored = now
            last = time.monotonic() if epoch_over else last

    def _batches(self) -> Iterator[Batch]:
        """Batches of the steps left, over as many epochs as it takes."""
        while self.step < self.steps:
            epoch, start = divmod(self.step, self.data.steps)
            before = self.step
            part = (self.devices.rank, self.devices.count)
            for batch in self.data.epoch(self.config.seed, epoch, start, part):
                yield batch
                if self.step >= self.steps:
                    return
            if self.step == before:
                raise TrainingError("the training data gave no batch: is the data set empty?")

    def _one_step(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        config, how = self.config, self.config.augment
        images, labels = images.to(self.device), labels.to(self.device)
        # Seeded by the step's number, so that resuming needs no state of this generator.
        rng = np.random.default_rng((config.seed, 1, self.step, *self._own_stream()))
        images = augment(images, how, rng, self.data.fill, self.data.span)
        early = self.step < config.early_share * self.steps
        if early and config.early_size:
            images = shrink(images, config.early_size)
        mixed = bool(how.mixup or how.cutmix)
        if mixed:
            images, partner, share = mix(images, how, rng)
        reset_state(self.model)
        self.optimizer.zero_grad(set_to_none=True)
        with (
            time_steps(self.model, config.early_T if early else 0),
            time_constant(self.model, config.early_tau if early else 0.0),
            torch.autocast(self.device.type, torch.bfloat16, enabled=config.bf16),
        ):
            logits = logits_of(self.forward, images).float()
        targets = labels
        if mixed and self.data.labelled:
            targets = blend_labels(labels, partner, share, logits.shape[1])
        loss = self.loss(logits, targets, images)
        loss.backward()  # type: ignore[no-untyped-call]
        correct = (logits.argmax(1) == labels).sum()
        value, right, seen = self._together(loss, correct, len(labels))
        if not math.isfinite(value):
            if not bool(torch.isfinite(images).all()):
                raise DataError(
                    f"an image of step {self.step} holds NaN or infinite values: check the data"
                )
            raise TrainingError(
                f"the loss is {value} at step {self.step}: lower --lr, or switch bf16 off"
            )
        if config.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        rate = learning_rate(config, self.step, self.data.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        move_average(self.ema, self.model, min(config.ema, (1 + self.step) / (10 + self.step)))
        self.window["steps"] += 1
        self.window["loss"] += value
        self.window["images"] += seen
        self.window["correct"] += right

    def _own_stream(self) -> tuple[int, ...]:
        """What sets the randomness of this process apart from that of the others."""
        return () if self.devices.count == 1 else (self.devices.rank,)

    def _together(
        self, loss: torch.Tensor, correct: torch.Tensor, images: int
    ) -> tuple[float, float, int]:
        """Loss, correct guesses and images of this step; gradients and statistics of all."""
        figures = torch.stack([loss.detach().double(), correct.double()])
        figures = torch.cat([figures, figures.new_tensor([images])])
        if self.devices.count > 1:
            gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
            self.devices.average([figures, *gradients, *self.model.buffers()])
            figures[1:] *= self.devices.count
        value, right, seen = figures.tolist()
        return value, right, round(seen)

    def _cross_entropy(
        self, logits: torch.Tensor, targets: torch.Tensor, images: torch.Tensor
    ) -> torch.Tensor:
        return F.cross_entropy(logits, targets, label_smoothing=self.config.label_smoothing)

    def _monitored(self, monitor: Monitor) -> Score:
        """The monitor's word on the weights that would be kept if training ended here."""
        weights = copied(self.model)
        try:
            if self.ema:
                self.model.load_state_dict(self.ema)
            return monitor(self.model.eval())
        finally:
            self.model.load_state_dict(weights)
            self._train_mode()

    def _judge(self, judge: Monitor, *, settle: bool = True) -> None:
        """Keep the weights of now if none were better: settled, or as they are."""
        weights = copied(self.model)
        try:
            if settle:
                self._settle()
            self.held_out = judge(self.model.eval())
            now = copied(self.model)
        finally:
            self.model.load_state_dict(weights)
            self._train_mode()
        better = self.held_out.beats(self.best)
        if better:
            self.best, self.best_model = self.held_out, now
        if self.folder is not None and self.devices.main:
            self.folder.keep(LAST, now)
            if better:
                self.folder.keep(BEST, now)

    def _status(self, steps_per_second: float) -> Status:
        per_epoch, window = self.data.steps, self.window
        return Status(
            step=self.step,
            steps=self.steps,
            epoch=self.step / per_epoch,
            epochs=self.steps / per_epoch,
            loss=window["loss"] / window["steps"],
            accuracy=self._accuracy(),
            images_per_second=steps_per_second * window["images"] / window["steps"],
            seconds_left=(self.steps - self.step) / steps_per_second,
            held_out=self.held_out,
        )

    def _accuracy(self) -> float | None:
        """Of the steps since the last line, on images as they were trained on."""
        seen = self.window["images"]
        return self.window["correct"] / seen if self.data.labelled and seen else None

    def _log(self, *, judged: bool) -> None:
        window = self.window
        line: dict[str, Any] = {"step": self.step, "epoch": round(self.step / self.data.steps, 4)}
        if window["steps"]:
            line["loss"] = window["loss"] / window["steps"]
            line["lr"] = learning_rate(self.config, self.step - 1, self.data.steps)
        figures = {"accuracy": self._accuracy()}
        if judged and self.held_out is not None:
            figures["held_out_accuracy"] = self.held_out.accuracy
            figures["held_out_loss"] = self.held_out.loss
        line |= {name: value for name, value in figures.items() if value is not None}
        line["seconds"] = round(self.seconds, 2)
        self.lines.append(line)
        if self.folder is not None and self.devices.main:
            self.folder.log(line)
        if self.listener is not None:
            self.listener(line)
        self.window = _empty_window()

    def finish(self) -> None:
        """Put the weights to keep into the model."""
        if self.best_model:
            self.model.load_state_dict(self.best_model)
        else:
            self._settle()
        reset_state(self.model)
        if self.config.channels_last:
            lay_out(self.model, torch.contiguous_format)
        self.model.eval()

    def _settle(self) -> None:
        """Averaged weights, where they are averaged, with fresh batch-norm statistics."""
        if self.ema:
            self.model.load_state_dict(self.ema)
        if self.config.bn_batches and norms_of(self.model):
            reestimate(self.model, like_trained_on(self.data, self.config, self.device))

    def _train_mode(self) -> None:
        self.model.train()
        if self.config.frozen_norms:
            for norm in norms_of(self.model).values():
                norm.eval()


def _empty_window() -> dict[str, float]:
    return {"steps": 0.0, "loss": 0.0, "images": 0.0, "correct": 0.0}
