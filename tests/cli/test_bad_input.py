"""Bad input of every kind: one clear line, the right exit code, and nothing half-written."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import psvit
from psvit.models.load import load_model


@pytest.fixture
def refused(run, net, tmp_path):
    """Run `psvit prune`, expect it to fail, return its one line; `out` must not appear."""

    def call(*arguments, model=net, code=2, data="digits", save="memory=30%", out=None):
        before = sorted(tmp_path.rglob("*"))
        given = ["--data", data] if data else []
        ended = run(
            "prune", model, *given, "--save", save, "-o", out or tmp_path / "out", *arguments
        )
        assert sorted(p for p in tmp_path.rglob("*") if "__pycache__" not in p.parts) == before
        assert ended.out == ""
        assert "Traceback" not in ended.err
        lines = ended.err.splitlines()
        assert [line.startswith("psvit: error: ") for line in lines] == [
            *[False] * (len(lines) - 1), True
        ], ended.err  # fmt: skip
        # Else only what the model prints and, on a slow machine, the stage it is in.
        assert all(line == "a model that prints" or line.endswith(" ...") for line in lines[:-1])
        assert ended.code == code
        return lines[-1].removeprefix("psvit: error: ")

    return call


# MODEL


def file_with(tmp_path: Path, body: str) -> str:
    (tmp_path / "user.py").write_text(body)
    return f"{tmp_path}/user.py:net"


def test_model_that_does_not_import(refused, tmp_path):
    line = refused(model=file_with(tmp_path, "import psvit_no_such_dependency\n"))
    assert "psvit_no_such_dependency" in line


def test_model_without_such_a_factory(refused, net):
    assert "has no 'Nett': it has Net" in refused(model=net + "t")


def test_model_whose_factory_raises(refused, tmp_path):
    line = refused(model=file_with(tmp_path, "def net():\n    raise KeyError('depths')\n"))
    assert "raises KeyError: 'depths' (user.py:2)" in line


def test_model_whose_factory_needs_arguments(refused, tmp_path):
    line = refused(model=file_with(tmp_path, "def net(depth):\n    pass\n"))
    assert "needs an argument: depth; give --model-arg depth=VALUE" in line


def test_model_that_is_no_module(refused, tmp_path):
    line = refused(model=file_with(tmp_path, "def net():\n    return {}\n"))
    assert "returns dict, expected an nn.Module" in line


def test_model_name_that_does_not_exist(refused):
    assert "did you mean 'spikformer-digits'?" in refused(model="spikformer-digit")


# Checkpoints


def test_checkpoint_that_is_missing(refused, tmp_path):
    line = refused("--checkpoint", tmp_path / "gone.pth")
    assert "gone.pth does not exist: expected a safetensors or torch file" in line


def test_checkpoint_that_is_truncated(refused, net, tmp_path):
    torch.save(load_model(net).model.state_dict(), tmp_path / "w.pth")
    data = (tmp_path / "w.pth").read_bytes()
    (tmp_path / "w.pth").write_bytes(data[: len(data) // 2])
    assert "w.pth is damaged, truncated" in refused("--checkpoint", tmp_path / "w.pth")


def test_checkpoint_of_another_model(refused, net, tmp_path):
    torch.save(load_model(net, {"width": 8}).model.state_dict(), tmp_path / "w.pth")
    line = refused("--checkpoint", tmp_path / "w.pth")
    assert "holds the weights of another model (2 of 10 tensors fit)" in line
    assert "stem.weight is [8, 1, 3, 3], expected [16, 1, 3, 3]" in line
    assert "and 5 more" in line


def test_checkpoint_that_would_execute_code(refused, tmp_path):
    class Payload:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/pwned",)

    torch.save({"state_dict": {"a": torch.ones(1)}, "extra": Payload()}, tmp_path / "w.pth")
    line = refused("--checkpoint", tmp_path / "w.pth")
    assert re.search(r"would execute code when read: it asks for \w+\.system", line)
    assert not (tmp_path / "pwned").exists()


# Example inputs


def test_input_of_the_wrong_shape(refused):
    line = refused("--input-shape", "3,8,8", data=None)
    assert "fails on an input of shape [2, 3, 8, 8], float32" in line
    assert "to have 1 channels, but got 3 channels" in line


def test_input_shape_that_contradicts_the_data(refused):
    line = refused("--input-shape", "3,16,16")
    assert "digits gives images of 1 channel(s), the model takes 3" in line


@pytest.mark.parametrize("text", ["3,,32", "a,b", "0,8,8", "-1,8,8", ""])
def test_input_shape_that_is_none(refused, text):
    assert "expected the sizes of one input, such as 3,32,32" in refused("--input-shape", text)


def test_input_shape_that_nothing_says(refused):
    assert "is not known: give --input-shape C,H,W" in refused(data=None)


def test_input_of_the_wrong_dtype_in_python(net):
    model = load_model(net).model
    with pytest.raises(psvit.ModelError, match=r"input of shape \[2, 1, 8, 8\] torch\.int64"):
        psvit.prune(model, torch.zeros(2, 1, 8, 8, dtype=torch.int64), {"memory": 0.2})


# Data


def folder(tmp_path: Path, labels=("0", "1"), count=3) -> str:
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for label in labels:
            place = tmp_path / "set" / split / label
            place.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 255, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{i}.png")
    return f"folder:{tmp_path}/set"


RECIPE = ("--size", 8, "--mean", "0.5", "--std", "0.5")


def test_data_that_is_missing(refused, tmp_path):
    assert "gone" in refused(*RECIPE, data=f"folder:{tmp_path}/gone")


def test_data_that_is_empty(refused, tmp_path):
    for split in ("train", "val"):
        (tmp_path / "set" / split / "cat").mkdir(parents=True)
    assert "holds no image" in refused(*RECIPE, data=f"folder:{tmp_path}/set")


def test_data_whose_preprocessing_nobody_says(refused, tmp_path):
    assert "give --recipe" in refused(data=folder(tmp_path))


def test_data_of_an_unknown_kind(refused):
    assert "is no data set: expected digits, folder:PATH" in refused(*RECIPE, data="mnist")


def test_one_undecodable_image_is_named_and_skipped_only_when_asked(refused, run, net, tmp_path):
    data = folder(tmp_path)
    bad = tmp_path / "set" / "val" / "1" / "1.png"
    bad.write_bytes(b"no image at all")
    model_arg = ("--model-arg", "classes=2")
    line = refused(*RECIPE, *model_arg, data=data)
    assert f"{bad} cannot be decoded" in line
    assert "--skip-bad leaves such images out" in line
    ended = run(
        "prune", net, *model_arg, "--data", data, *RECIPE, "--save", "memory=30%", "--skip-bad",
        "-o", tmp_path / "out", "--json",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["after"]["n"] == 5
    assert f"1 image was left out, the first: {bad}" in ended.err


def test_labels_outside_the_classes(refused):
    line = refused("--model-arg", "classes=7")
    assert "digits has 10 classes, the model has 7" in line


# Budgets


@pytest.mark.parametrize(
    "text", ["memory=0", "memory=0%", "memory=1", "memory=100%", "memory=-0.1", "memory=-5%"]
)
def test_budget_of_nothing_everything_or_less(refused, text):
    assert "expected a share above 0% and below 100% (0 to 1)" in refused(save=text)


def test_budget_that_forgot_its_percent_sign(refused):
    assert "write 22.4% for per cent" in refused(save="memory=22.4")


@pytest.mark.parametrize("text", ["memory=3MW", "params=3MB", "energy=2W", "memory=22.4 percent"])
def test_budget_in_nonsense_units(refused, text):
    assert "expected a share of what there is, 22.4% or 0.224, or an amount" in refused(save=text)


@pytest.mark.parametrize(
    "text", ["memory", "22.4%", "memory=", "memory=much", "=0.2", "memory=nan"]
)
def test_budget_that_is_none(refused, text):
    line = refused(save=text)
    assert "memory, params, macs" in line
    assert repr(text) in line


def test_budget_of_an_unknown_quantity(refused):
    assert "no unit 'speed', expected one of memory, params, macs" in refused(save="speed=0.2")


def test_budget_given_twice(refused):
    assert "--save memory is given twice" in refused("--save", "memory=0.2")


def test_budget_out_of_reach_says_what_is_reachable_and_that_succeeds(refused, run, net, tmp_path):
    line = refused(save="memory=99%", code=3)
    found = re.search(r"at most (\d+\.\d+)% is reachable", line)
    assert found
    ended = run(
        "prune", net, "--data", "digits", "--save", f"memory={found[1]}%", "-o", tmp_path / "out"
    )
    assert ended.code == 0, ended.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--saliency", "l3"), "l3"),
        (("--method", "best"), "no allocation method is called 'best'"),
        (("--align", 0), "align is 0"),
        (("--device", "abacus"), "--device 'abacus' cannot be used"),
        (("--device", "cuda:99"), "--device 'cuda:99' cannot be used"),
        (("--recipe", "none"), "no recipe is called 'none'"),
        (("--batch-size", 0), "--batch-size is 0"),
        (("--limit", 0), "limited to 0"),
        (("--allow-partial",), "--allow-partial goes with --checkpoint"),
        (("--model-arg", "width"), "expected key=value"),
        (("--model-arg", "wide=2"), "takes no argument 'wide': it takes width, classes"),
    ],
)
def test_options_that_mean_nothing(refused, arguments, words):
    assert words in refused(*arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("prun",), "No such command 'prun'"),
        (("prune",), "Missing argument 'MODEL' (see `psvit prune --help`)"),
        (("prune", "m", "-o", "x"), "no budget was given"),
        (("prune", "m", "--save", "memory=0.2"), "Missing option '-o' / '--out'"),
        (("inspect", "m", "--sed", "1"), "No such option: --sed"),
        (("demo", "--seed", "1"), "No such option: --seed"),
    ],
)
def test_usage_errors_end_with_2(run, arguments, words):
    ended = run(*arguments)
    assert ended.code == 2
    assert ended.err.startswith("psvit: error: ")
    assert ended.err.count("\n") == 1
    assert words in ended.err


# OUT


def test_out_that_exists(refused, tmp_path):
    (tmp_path / "out").mkdir()
    assert "out exists: give another folder, or --force to replace it" in refused()


def test_out_that_psvit_did_not_write_is_not_replaced(refused, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    assert "not a folder that psvit wrote, so it is not replaced" in refused("--force")


def test_out_that_cannot_be_written(refused, tmp_path):
    (tmp_path / "file").touch()
    line = refused(out=tmp_path / "file" / "out")
    assert "cannot write" in line
    assert "file is a file, expected a folder" in line


def test_out_is_checked_before_any_work(refused, tmp_path):
    (tmp_path / "out").mkdir()
    assert "exists" in refused(model="no-such-model")


# Folders that psvit wrote


@pytest.fixture
def folder_out(net, tmp_path):
    loaded = load_model(net)
    result = psvit.prune(
        loaded.model, torch.rand(2, 1, 16, 16), {"memory": 0.3}, source=loaded.source
    )
    psvit.save(result, tmp_path / "small")
    return tmp_path / "small"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda plan: plan["keep"]["stem.weight"]["0"].pop(), "edited"),
        (lambda plan: plan.__setitem__("psvit_plan", 99), "version 99"),
        (lambda plan: plan.__setitem__("keep", 3), "is not a psvit plan"),
    ],
    ids=["edited", "newer", "nonsense"],
)
def test_plan_that_was_edited_or_is_newer(refused, folder_out, change, words):
    plan = json.loads((folder_out / "plan.json").read_text())
    change(plan)
    (folder_out / "plan.json").write_text(json.dumps(plan))
    assert words in refused(model=folder_out)


def test_plan_from_another_model(refused, folder_out, tmp_path):
    result = psvit.prune(nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 1), nn.Flatten(),
                                       nn.Linear(128, 4)), torch.rand(2, 1, 6, 6),
                         {"memory": 0.2})  # fmt: skip
    (folder_out / "plan.json").write_text(result.plan.to_json())
    assert "is not the plan that model.safetensors was written with" in refused(model=folder_out)


def test_factory_that_has_changed_since(refused, folder_out, tmp_path):
    text = (tmp_path / "net.py").read_text()
    (tmp_path / "net.py").write_text(text.replace("width=16", "width=24"))
    assert "the plan belongs to another model" in refused(model=folder_out)


def test_folder_that_psvit_did_not_write(refused, tmp_path):
    (tmp_path / "photos").mkdir()
    assert "is not a folder that psvit wrote" in refused(model=tmp_path / "photos")


# Interruptions and defects


@pytest.mark.parametrize(
    "where",
    ["psvit.cli.inputs.load_model", "psvit.cli.run.prune", "psvit.cli.run.time_models",
     "psvit.cli.run.save"],
)  # fmt: skip
def test_ctrl_c_at_any_stage_writes_nothing(run, net, tmp_path, monkeypatch, where):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(where, stop)
    ended = run("prune", net, "--data", "digits", "--save", "memory=30%", "-o", tmp_path / "out")
    assert ended.code == 130
    assert ended.err.splitlines()[-1] == "psvit: interrupted, nothing written"
    assert "Traceback" not in ended.err
    assert not (tmp_path / "out").exists()


def test_defect_of_psvit_is_one_line_too(run, monkeypatch):
    def fail(*args, **kwargs):
        raise ZeroDivisionError("oh\nno")

    monkeypatch.setattr("psvit.cli.evaluate.open_model", fail)
    ended = run("evaluate", "spikformer-digits")
    assert ended.code == 1
    assert ended.err == (
        "psvit: error: ZeroDivisionError: oh no (this is a defect of psvit: PSVIT_DEBUG=1 shows "
        "where it happened)\n"
    )
    monkeypatch.setenv("PSVIT_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        run("evaluate", "spikformer-digits")


def test_a_real_ctrl_c(net, tmp_path):
    """In a process of its own: the signal arrives while the model runs."""
    file = tmp_path / "net.py"
    slow = "import pathlib, time; pathlib.Path(__file__).with_name('runs').touch(); time.sleep(5)"
    file.write_text(file.read_text().replace('print("a model that prints")', slow))
    process = subprocess.Popen(
        [sys.executable, "-m", "psvit", "prune", net, "--input-shape", "1,8,8",
         "--save", "memory=30%", "-o", str(tmp_path / "out")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # a suite that runs in the background hands down an ignored interrupt
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (tmp_path / "runs").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 130
    assert out == ""
    assert err.splitlines()[-1] == "psvit: interrupted, nothing written"
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()
