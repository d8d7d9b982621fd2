"""What cannot be done is said in one line, before anything is trained."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

import psvit
from psvit.errors import (
    CheckpointError,
    DataError,
    MissingExtra,
    ModelError,
    OptionError,
    OutputError,
    TrainingError,
)
from psvit.finetune import Tuning, finetune
from psvit.train import Devices, board, find_devices
from tests.finetune.tiny import TUNING, data, dense_model, pruned


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"epochs": 0}, "epochs is 0, expected more than 0"),
        ({"epochs": -1.0}, "epochs is -1.0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"temperature": 0.0}, "temperature is 0.0, expected more than 0"),
        ({"label_weight": 1.5}, "label weight is 1.5, expected 0"),
        ({"augment": "heavy"}, "no augmentation is called 'heavy', expected one of none, light"),
        ({"held_out": 1.0}, "held-out is 1.0"),
        ({"momentum": 0.9}, "no setting is called 'momentum', expected one of epochs, lr"),
    ],
)
def test_settings_that_mean_nothing(setting: dict[str, object], message: str) -> None:
    dense = dense_model()
    with pytest.raises(OptionError, match=message) as error:
        finetune(pruned(dense), dense, data(), **setting)
    assert "\n" not in str(error.value)


def test_labels_asked_for_where_there_are_none() -> None:
    dense = dense_model()
    with pytest.raises(OptionError, match=r"label weight is 0\.5, but the data has no labels"):
        finetune(pruned(dense), dense, data(labels=False), TUNING, label_weight=0.5)


def test_a_teacher_of_other_classes_and_none_at_all() -> None:
    small = pruned(dense_model())
    with pytest.raises(ModelError, match="the teacher knows 4 classes, the pruned model 3"):
        finetune(small, dense_model(classes=4), data(), TUNING)
    with pytest.raises(OptionError, match="there is no teacher"):
        finetune(small, None, data(), TUNING)


def test_a_run_of_another_plan_or_of_other_settings(tmp_path: Path) -> None:
    dense = dense_model()
    finetune(pruned(dense), dense, data(), TUNING, epochs=0.2, run=tmp_path)
    other = psvit.prune(dense, torch.zeros(2, 1, 6, 6), save={"memory": 0.2}).model
    with pytest.raises(CheckpointError, match="holds a checkpoint of another plan"):
        finetune(other, dense, data(), TUNING, epochs=0.2, run=tmp_path)
    with pytest.raises(OutputError, match=r"'temperature': 2\.0.*'temperature': 4\.0"):
        finetune(pruned(dense), dense, data(), TUNING, epochs=0.2, temperature=4.0, run=tmp_path)
    (tmp_path / "settings.json").write_text("{}")
    with pytest.raises(CheckpointError, match="is not the folder of a fine-tuning"):
        finetune(pruned(dense), dense, data(), TUNING, run=tmp_path)


def test_a_device_that_is_not_there() -> None:
    dense = dense_model()
    with pytest.raises(OptionError, match="device 'cuda:9' cannot be used"):
        finetune(pruned(dense), dense, data(), TUNING, device="cuda:9")


def test_a_loss_that_is_no_number_and_images_that_are_none() -> None:
    dense = dense_model()
    small = pruned(dense)
    with torch.no_grad():
        small.get_submodule("0").weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match="loss is nan at step 0") as error:
        finetune(small, dense, data(), dataclasses.replace(TUNING, held_out=0.0))
    assert error.value.exit_code == 2
    broken = [torch.full((8, 1, 6, 6), float("inf"))] * 4
    with pytest.raises(DataError, match="NaN or infinite"):
        finetune(pruned(dense), dense, broken, TUNING)


def test_a_teacher_that_guesses_is_pointed_out() -> None:
    guessing = dense_model()
    with torch.no_grad():
        guessing[8].weight.zero_()
        guessing[8].bias.copy_(torch.tensor([1.0, 0.0, 0.0]))
    said: list[str] = []
    images, labels = next(data().epoch(0, 0))
    never = [(images, labels.clamp_min(1))] * 4
    finetune(pruned(dense_model()), guessing, never, TUNING, epochs=0.1, note=said.append)
    assert "no better than a guess: wrong preprocessing" in said[0]


def test_packages_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    dense = dense_model()
    for name in ("torch.utils.tensorboard", "accelerate", "kornia.augmentation.auto", "kornia"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(MissingExtra, match=r"kornia.*psvit\[finetune\]"):
        finetune(pruned(dense), dense, data(), TUNING, augment="timm")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(MissingExtra, match=r"accelerate.*psvit\[finetune\]"):
        find_devices()
    said: list[str] = []
    with board.open_board(Path("run"), Devices(torch.device("cpu")), said.append) as writes:
        assert writes is None
    assert len(said) == 1
    assert "psvit[finetune]" in said[0]


def test_the_settings_are_plain_data() -> None:
    assert Tuning(features=("a", "b")).to_dict()["features"] == ["a", "b"]
