"""A killed job resumes to the same result."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from psvit.errors import CheckpointError, ModelError, OutputError, TrainingError
from psvit.recover.bn import reestimate
from psvit.train import Augment, FromLoader, Score, TrainConfig, TrainingData, fit, loop
from psvit.train.augment import augment
from psvit.train.checkpoint import CHECKPOINT, LOG, write_atomically
from psvit.train.progress import Status
from tests.train.small import CONFIG, small_data, small_model

ROOT = Path(__file__).parents[2]


class Stop(Exception):
    """Ends a run from within."""


def _curve(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The log without the times, which differ from run to run."""
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def _stop_at(step: int) -> Any:
    def progress(status: Status) -> None:
        if status.step == step:
            raise Stop

    return progress


@pytest.mark.parametrize(("killed_at", "seconds"), [(8, 0.0), (12, 1e9)])
def test_a_killed_job_resumes_to_the_same_loss_curve_and_weights(
    tmp_path: Path, killed_at: int, seconds: float
) -> None:
    whole = small_model()
    expected = fit(whole, small_data(), CONFIG, out=tmp_path / "whole")
    assert len(expected) == 15

    out = tmp_path / "killed"
    command = [sys.executable, "-m", "tests.train.killed", str(out), str(killed_at), str(seconds)]
    killed = subprocess.run(command, cwd=ROOT, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    before = len((out / LOG).read_text().splitlines())
    assert before == killed_at - 1

    resumed = small_model()
    steps: list[int] = []
    lines = fit(
        resumed, small_data(), CONFIG, out=out, progress=lambda status: steps.append(status.step)
    )
    # From the last checkpoint: of the step before, or of the end of the second epoch.
    assert steps[0] == (killed_at if seconds == 0 else 11)
    assert _curve(lines) == _curve(expected)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_a_job_killed_over_and_over_resumes_to_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(CONFIG, log_steps=3)  # lines that span a kill
    expected = fit(small_model(), small_data(), config)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    for step in (2, 5, 6, 14):
        with pytest.raises(Stop):
            fit(small_model(), small_data(), config, out=tmp_path, progress=_stop_at(step))
    assert _curve(fit(small_model(), small_data(), config, out=tmp_path)) == _curve(expected)


def test_a_loader_resumes_inside_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def loader() -> TrainingData:
        images, labels = next(small_data(batch=40).epoch(0, 0))
        pairs = torch.utils.data.TensorDataset(images, labels)
        return FromLoader(torch.utils.data.DataLoader(pairs, batch_size=8, shuffle=True))

    expected = fit(small_model(), loader(), CONFIG)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(Stop):
        fit(small_model(), loader(), CONFIG, out=tmp_path, progress=_stop_at(8))
    assert _curve(fit(small_model(), loader(), CONFIG, out=tmp_path)) == _curve(expected)


def test_a_finished_run_is_not_trained_further(tmp_path: Path) -> None:
    first = small_model()
    lines = fit(first, small_data(), CONFIG, out=tmp_path)
    again, steps = small_model(), []
    assert fit(again, small_data(), CONFIG, out=tmp_path, progress=steps.append) == lines
    assert steps == []
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in first.state_dict().items())


def test_training_leaves_the_callers_random_state_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    model = small_model()
    torch.manual_seed(7)
    fit(model, small_data(), CONFIG)
    assert torch.equal(torch.rand(3), expected)


def test_training_learns_and_ends_in_eval_mode() -> None:
    model = small_model()
    plain = TrainConfig(epochs=8, batch=8, lr=1e-2, warmup=1, log_steps=1, label_smoothing=0)
    lines = fit(model, small_data(), plain)
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"]
    assert not model.training


def test_statistics_at_the_end_are_of_images_as_they_were_trained_on() -> None:
    model, expected = small_model(), small_model()
    how = Augment(crop=2, flip=True, erase=0.5, mixup=0.5)
    config = TrainConfig(epochs=0, batch=8, bn_batches=3, seed=4, augment=how)
    lines = fit(model, small_data(), config)
    assert lines == []
    data, seen = small_data(), []
    for index, (images, _) in enumerate(islice(data.epoch(4, 1), 3)):
        rng = np.random.default_rng((4, 2, index))
        changed = augment(images, how, rng, data.fill)
        assert not torch.equal(changed, images)
        seen.append(changed)
    reestimate(expected, seen)
    for name, value in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_weights_at_the_start_are_judged_as_they_are() -> None:
    def judge(model: torch.nn.Module) -> Score:
        seen.append(model[1].running_mean.clone())
        return Score(1.0 if len(seen) == 1 else 0.5)

    model, seen = small_model(), []
    before = {k: v.clone() for k, v in model.state_dict().items()}
    fit(model, small_data(), CONFIG, monitor=judge, best=True)
    assert torch.equal(seen[0], before["1.running_mean"])
    assert not torch.equal(seen[1], seen[0])
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_the_monitor_sees_the_averaged_weights_and_leaves_no_trace() -> None:
    expected = fit(small_model(), small_data(), CONFIG)
    seen: list[dict[str, torch.Tensor]] = []

    def monitor(model: torch.nn.Module) -> Score:
        assert not model.training
        seen.append({k: v.clone() for k, v in model.state_dict().items()})
        return Score(0.25)

    model = small_model()
    config = dataclasses.replace(CONFIG, bn_batches=0)
    lines = fit(model, small_data(), config, monitor=monitor)
    assert [line["loss"] for line in lines] == [line["loss"] for line in expected]
    assert lines[-1]["held_out_accuracy"] == 0.25
    assert len(seen) == 3
    assert all(torch.equal(seen[-1][k], v) for k, v in model.state_dict().items())


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    fit(small_model(), small_data(), CONFIG, out=tmp_path)
    other = dataclasses.replace(CONFIG, lr=1e-3)
    with pytest.raises(OutputError, match=r"'lr': 0\.01.*'lr': 0\.001"):
        fit(small_model(), small_data(), other, out=tmp_path)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(OutputError, match="holds other files"):
        fit(small_model(), small_data(), CONFIG, out=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    fit(small_model(), small_data(), CONFIG, out=tmp_path)
    place = tmp_path / CHECKPOINT
    place.write_bytes(place.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt is damaged"):
        fit(small_model(), small_data(), CONFIG, out=tmp_path)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "state"
    write_atomically(place, b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        write_atomically(place, b"new")
    assert place.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["state"]


def test_early_steps_are_fewer_and_smaller_and_the_monitor_sees_all() -> None:
    class Steps(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.T, self.body, self.seen = 4, small_model(), []

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen.append((self.T, x.shape[-1], self.training))
            return self.body(torch.nn.functional.interpolate(x, size=6))

    def monitor(model: torch.nn.Module) -> Score:
        model(torch.zeros(2, 1, 6, 6))
        return Score(0.0)

    model = Steps()
    config = TrainConfig(epochs=3, batch=8, early_T=2, early_size=5, early_share=0.4)
    fit(model, small_data(), config, monitor=monitor)
    assert [seen[:2] for seen in model.seen if seen[2]] == [(2, 5)] * 6 + [(4, 6)] * 9
    assert [seen[:2] for seen in model.seen if not seen[2]] == [(4, 6)] * 3
    assert model.T == 4


def test_fewer_time_steps_need_a_model_that_has_some() -> None:
    config = TrainConfig(epochs=1, batch=8, early_T=2, early_share=0.4)
    with pytest.raises(ModelError, match="attribute T"):
        fit(small_model(), small_data(), config)


def test_leaky_neurons_have_another_time_constant_only_in_the_early_part() -> None:
    class Leaky(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tau, self.body, self.seen = 2.0, small_model(), []

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen.append(self.tau)
            return self.body(x)

    model = Leaky()
    config = TrainConfig(epochs=3, batch=8, early_tau=1.4, early_share=0.4)
    fit(model, small_data(), config)
    assert model.seen == [1.4] * 6 + [2.0] * 9
    assert model.tau == 2.0


def test_channels_last_trains_the_same_model_and_leaves_no_trace() -> None:
    models = small_model(), small_model()
    for model, channels_last in zip(models, (False, True), strict=True):
        fit(model, small_data(), dataclasses.replace(CONFIG, channels_last=channels_last))
    for one, other in zip(*(m.state_dict().values() for m in models), strict=True):
        assert other.is_contiguous()
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_a_loss_that_is_no_number_ends_the_run() -> None:
    def broken(logits: torch.Tensor, labels: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        return logits.sum() * float("nan")

    with pytest.raises(TrainingError, match="loss is nan at step 0"):
        fit(small_model(), small_data(), CONFIG, loss=broken)


def test_a_fraction_of_an_epoch_is_enough() -> None:
    config = TrainConfig(epochs=0.4, batch=8, warmup=0, augment=Augment())
    (line,) = fit(small_model(), small_data(), config)
    assert line["step"] == 2
