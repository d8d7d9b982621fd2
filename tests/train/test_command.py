"""`python -m psvit.train` leaves weights that load, and a report that says how they came about."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import psvit
from psvit.models import MODELS, build
from psvit.train.__main__ import main
from psvit.train.presets import PRESETS

SMALL = [
    "--model-arg", "embed_dims=32", "--model-arg", "depths=1",
    "--epochs", "0.1", "--batch", "32", "--bn-batches", "1",
]  # fmt: skip


def test_training_writes_weights_that_load_and_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["spikformer-digits", "--data", "digits", "--out", str(tmp_path / "run"), *SMALL]
    assert main(arguments) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert "images/s" in told.err
    assert "of 359 images" in told.err
    model = build("spikformer-digits", weights=False, embed_dims=32, depths=1)
    model.load_state_dict(load_file(tmp_path / "run" / "model.safetensors"))
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["eval"]["n"] == 359
    assert report["train_images"] == 1438
    assert report["config"]["epochs"] == 0.1
    assert "--out DIR" in report["command"]
    assert str(tmp_path) not in json.dumps(report)


def test_the_same_command_says_the_same_again(tmp_path: Path) -> None:
    weights = []
    for _ in range(2):
        assert main(
            ["spikformer-digits", "--data", "digits", "--out", str(tmp_path), "--no-eval", *SMALL]
        ) == 0  # fmt: skip
        weights.append(load_file(tmp_path / "model.safetensors"))
    assert all(torch.equal(v, weights[1][k]) for k, v in weights[0].items())
    assert "eval" not in json.loads((tmp_path / "report.json").read_text())


def test_training_goes_on_from_a_checkpoint_and_says_where_that_came_from(tmp_path: Path) -> None:
    """At a rate of nearly 0, a run ends with the weights that it starts with."""
    first, second = tmp_path / "first", tmp_path / "second"
    command = ["spikformer-digits", "--data", "digits", "--no-eval", *SMALL]
    assert main([*command, "--out", str(first)]) == 0
    start = first / "model.safetensors"
    assert main([*command, "--out", str(second), "--start", str(start), "--lr", "1e-30"]) == 0
    before, after = load_file(start), load_file(second / "model.safetensors")
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    report = json.loads((second / "report.json").read_text())
    assert report["before"] == json.loads((first / "report.json").read_text())
    assert report["start"] == hashlib.sha256(start.read_bytes()).hexdigest()
    assert str(tmp_path) not in json.dumps(report)


def test_without_epochs_only_statistics_are_taken(tmp_path: Path) -> None:
    start = Path(psvit.__file__).parent / "models/weights/spikformer-digits.safetensors"
    command = ["spikformer-digits", "--data", "digits", "--no-eval", "--start", str(start)]
    assert main([*command, "--epochs", "0", "--out", str(tmp_path)]) == 0
    before, after = load_file(start), load_file(tmp_path / "model.safetensors")
    changed = {n.split(".")[-1] for n, t in before.items() if not torch.equal(t, after[n])}
    assert changed == {"running_mean", "running_var"}
    assert json.loads((tmp_path / "report.json").read_text())["train_seconds"] == 0


def test_a_run_from_another_checkpoint_is_another_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    command = ["spikformer-digits", "--data", "digits", "--no-eval", *SMALL, "--out", out]
    assert main(command) == 0
    start = tmp_path / "run" / "model.safetensors"
    capsys.readouterr()
    assert main([*command, "--start", str(start)]) == 2
    assert "other settings (start None is now" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["spikfromer", "--data", "digits"], "'spikfromer'"),
        (["spikformer-digits", "--data", "digits", "--lr", "-1"], "lr is -1"),
        (["spikformer-digits", "--data", "digitz"], "digitz"),
        (["spikformer-digits", "--data", "digits", "--model-arg", "widht=3"], "widht=3"),
        (["spikformer-digits", "--data", "digits", "--held-out", "1.5"], "held"),
        (["spikformer-digits", "--data", "digits", "--start", "no.safetensors"], "no.safetensors"),
    ],
    ids=["name", "option", "data", "argument", "share", "start"],
)
def test_bad_input_is_one_line_and_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    out = tmp_path / "run"
    assert main([*arguments, "--out", str(out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not out.exists()


def test_presets_are_of_models_that_exist() -> None:
    assert set(PRESETS) <= set(MODELS)
