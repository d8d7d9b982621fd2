"""Laws of fine-tuning: resumed is uninterrupted, the teacher stays, the best weights are kept."""

from __future__ import annotations

import copy
import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import psvit
from psvit.errors import OutputError
from psvit.finetune import Tuned, Tuning, finetune
from psvit.finetune.data import split
from psvit.finetune.distill import Distillation
from psvit.train import Status
from psvit.train.checkpoint import BEST, LAST, LOG
from tests.finetune.tiny import TUNING, data, dense_model, pruned

ROOT = Path(__file__).parents[2]


def _copied(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _same(model: nn.Module, state: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def _losses(run: Path) -> list[str]:
    """The lines of the log as they were written, without the times."""
    return [line.split(', "seconds"')[0] for line in (run / LOG).read_text().splitlines()]


def test_killed_and_resumed_is_uninterrupted_to_the_byte(tmp_path: Path) -> None:
    dense = dense_model()
    expected = finetune(pruned(dense), dense, data(), TUNING, run=tmp_path / "whole")
    command = [sys.executable, "-m", "tests.finetune.killed", str(tmp_path / "killed"), "8"]
    killed = subprocess.run(command, cwd=ROOT, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL
    before = _losses(tmp_path / "killed")
    assert 0 < len(before) < len(expected.log)

    small, steps = pruned(dense), []
    tuned = finetune(
        small, dense, data(), TUNING, run=tmp_path / "killed",
        progress=lambda status: steps.append(status.step),
    )  # fmt: skip
    assert steps[0] > 5
    assert _losses(tmp_path / "killed") == _losses(tmp_path / "whole")
    assert tuned.summary()["kept_step"] == expected.summary()["kept_step"]
    assert _same(small, _copied(expected.model))


def test_the_record_says_how_many_images_the_steps_had() -> None:
    images, labels = next(iter(data().plain(50)))
    loader = DataLoader(TensorDataset(images, labels), batch_size=10)
    dense = dense_model()
    tuned = finetune(pruned(dense), dense, loader, TUNING, epochs=1)
    assert TUNING.batch != 10
    assert tuned.summary()["tuning"]["batch"] == 10
    assert tuned.summary()["steps"] == 4


def test_the_teacher_is_untouched_bit_for_bit() -> None:
    dense = dense_model().train()
    dense[1].eval()
    before, modes = _copied(dense), [m.training for m in dense.modules()]
    tuned = finetune(pruned(dense), dense, data(), TUNING)
    assert _same(dense, before)
    assert [m.training for m in dense.modules()] == modes
    assert all(p.requires_grad and p.grad is None for p in dense.parameters())
    assert tuned.teacher is not None
    assert tuned.teacher is not dense
    assert _same(tuned.teacher, before)


def test_the_best_weights_on_held_out_images_are_kept(tmp_path: Path) -> None:
    dense = dense_model()
    # Far too fast: later epochs are worse than the first.
    wild = dataclasses.replace(TUNING, lr=1.0, epochs=5, warmup=0.0, norms="batch")
    tuned = finetune(pruned(dense), dense, data(), wild, run=tmp_path / "run")
    judged = [line for line in tuned.log if "held_out_loss" in line]
    assert [line["step"] for line in judged] == [0, 5, 10, 15, 20, 25]
    best = min(judged, key=lambda line: line["held_out_loss"])
    assert tuned.summary()["kept_step"] == best["step"] != judged[-1]["step"]
    again = Distillation(tuned.model, tuned.teacher, wild).score(
        tuned.model, split(data(), wild).held_out(), labelled=True
    )
    assert again.accuracy == best["held_out_accuracy"]
    assert again.loss == pytest.approx(best["held_out_loss"], rel=1e-6)
    kept, last = (load_file(tmp_path / "run" / name) for name in (BEST, LAST))
    assert _same(tuned.model, kept)
    assert not _same(tuned.model, last)


def test_a_tenth_of_an_epoch_is_a_tenth_of_the_steps() -> None:
    dense = dense_model()
    for epochs, steps in ((0.1, 1), (0.4, 2), (1.4, 7)):
        tuned = finetune(pruned(dense), dense, data(), TUNING, epochs=epochs)
        assert tuned.summary()["steps"] == steps


def test_an_identical_student_has_nothing_to_learn_without_labels() -> None:
    dense = dense_model()
    for norm in (1, 4):
        dense[norm] = nn.Identity()  # a batch norm in training differs from itself in evaluation
    dense[7] = nn.Identity()
    student = dense_model()
    for layer in (1, 4, 7):
        student[layer] = nn.Identity()
    before = _copied(student)
    tuning = dataclasses.replace(TUNING, weight_decay=0.0, features=("3",))
    tuned = finetune(student, dense, data(labels=False), tuning)
    assert [line["loss"] for line in tuned.log if "loss" in line] == [0.0] * 10
    assert _same(student, before)


def test_a_pruned_model_comes_closer_to_the_dense_one_without_labels() -> None:
    dense = dense_model()
    tuned = finetune(pruned(dense), dense, data(labels=False), TUNING, epochs=6)
    judged = [line for line in tuned.log if "held_out_loss" in line]
    assert "held_out_accuracy" not in judged[0]
    assert "accuracy" not in tuned.log[-1]
    assert judged[-1]["held_out_loss"] < 0.5 * judged[0]["held_out_loss"]


def test_labels_alone_teach_without_a_teacher() -> None:
    tuned = finetune(pruned(dense_model()), None, data(), TUNING, label_weight=1.0, epochs=8)
    summary = tuned.summary()
    assert tuned.teacher is None
    assert summary["held_out_accuracy"] > summary["held_out_accuracy_at_start"]


def test_the_log_is_written_for_tensorboard_too(tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    dense = dense_model()
    tuned = finetune(pruned(dense), dense, data(), TUNING, run=tmp_path / "run")
    (events,) = (tmp_path / "run" / "tensorboard").iterdir()
    found = [
        (event.step, value.tag)
        for event in reader.EventFileLoader(str(events)).Load()
        for value in event.summary.value
    ]
    expected = [(line["step"], name) for line in tuned.log for name in line if name != "step"]
    assert found == expected


def test_tuned_models_are_saved_loaded_and_pruned_again(tmp_path: Path) -> None:
    dense = dense_model()
    result = psvit.prune(dense, torch.zeros(2, 1, 6, 6), save={"memory": 0.5})
    tuned = psvit.finetune(result.model, dense, data(), Tuning(epochs=0.4, batch=8))
    psvit.save(result, tmp_path / "OUT")
    loaded = psvit.load(tmp_path / "OUT", model=dense_model())
    assert _same(loaded, _copied(tuned.model))
    json.dumps(tuned.summary())
    again = psvit.prune(loaded, torch.zeros(2, 1, 6, 6), save={"memory": 0.2})
    assert again.after.params < result.after.params


class _Viewed(nn.Module):
    """A view that only the other order in memory allows."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(x.shape[0], -1)


@pytest.mark.parametrize("flatten", [nn.Flatten, _Viewed])
def test_images_lie_channels_last_where_the_forward_can_do_with_it(
    flatten: type[nn.Module],
) -> None:
    dense = dense_model()
    dense[6] = flatten()
    small, last = pruned(dense), []
    for model in (small, dense):  # the teacher is a copy of dense, with its hooks
        _, conv = (module for module in model.modules() if isinstance(module, nn.Conv2d))
        conv.register_forward_hook(lambda _, args, out: last.append(not out.is_contiguous()))
    tuned = finetune(small, dense, data(), TUNING, norms="batch")
    assert set(last[-20:]) == {flatten is nn.Flatten}
    assert tuned.teacher is not None
    for model in (small, tuned.teacher):
        assert all(tensor.is_contiguous() for tensor in model.state_dict().values())


def test_fine_tuning_begins_with_what_recovery_auto_leaves() -> None:
    dense = dense_model()
    images, batches, seen = torch.zeros(2, 1, 6, 6), list(data().plain(10)), []

    def trainer(small: nn.Module, teacher: nn.Module) -> Tuned:
        seen.append(_copied(small))
        return finetune(small, teacher, data(), TUNING, held_out=0.0)

    save: Any = {"memory": 0.5}
    closed = psvit.prune(dense, images, save=save, data=batches, recover="auto")
    result = psvit.prune(
        dense, images, save=save, data=batches, recover="finetune", trainer=trainer
    )
    assert result.plan == closed.plan
    assert _same(closed.model, seen[0])
    assert not _same(result.model, seen[0])
    steps = [step["step"] for step in result.measured["recovery"]["steps"]]
    assert steps == ["bn", "obs", "lsq"]


def test_a_student_that_is_known_by_how_it_was_made_may_differ_in_last_bits(
    tmp_path: Path,
) -> None:
    dense, start = dense_model(), pruned(dense_model())
    made = {"method": "optimal", "seed": 0}

    def begin(student: dict[str, Any] | None, *, other: float = 0.0, epochs: int = 2) -> Tuned:
        small = copy.deepcopy(start)
        next(small.parameters()).data.mul_(1 + other)
        return finetune(
            small, dense, data(), TUNING, run=tmp_path, student=student, epochs=epochs,
            progress=stop,
        )  # fmt: skip

    def stop(status: Status) -> None:
        if stops and status.step == 7:
            raise KeyboardInterrupt

    stops = True
    with pytest.raises(KeyboardInterrupt):
        begin(made)
    for student in (None, {**made, "seed": 1}):
        with pytest.raises(OutputError, match="other settings"):
            begin(student, other=1e-6)
    stops = False
    resumed = begin(made, other=1e-6)
    whole = finetune(copy.deepcopy(start), dense, data(), TUNING)
    assert _losses_of(resumed) == _losses_of(whole)
    assert _same(resumed.model, _copied(whole.model))


def _losses_of(tuned: Tuned) -> list[float]:
    return [line["loss"] for line in tuned.log if "loss" in line]


def test_pruning_may_end_with_fine_tuning() -> None:
    dense = dense_model()
    images = torch.zeros(2, 1, 6, 6)
    batches = list(data().plain(10))
    result = psvit.prune(dense, images, save={"memory": 0.5}, data=batches, recover="finetune")
    told = result.measured["finetune"]
    assert told["tuning"]["epochs"] == 1.0
    assert result.settings["recover"] == "finetune"
    assert result.settings["saliency"] == "obs"
    assert not _same(result.model, _copied(pruned(dense)))
    assert result.control is not None
    assert _same(result.control, _copied(dense))
