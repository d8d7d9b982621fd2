"""`psvit sensitivity`: what it writes, how it goes on, and bad input in one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import psvit
from psvit.cli.app import main
from psvit.models.load import load_model
from psvit.sensitivity import read_curves
from psvit.sensitivity import sweep as sweep_file
from tests.cli.conftest import NET, Ended


@pytest.fixture(autouse=True)
def _single_precision():
    torch.set_default_dtype(torch.float32)  # as on the command line


@pytest.fixture
def net(tmp_path: Path) -> str:
    """MODEL of a user's file."""
    (tmp_path / "net.py").write_text(NET)
    return f"{tmp_path}/net.py:Net"


@pytest.fixture
def run(capsys, monkeypatch):
    """Call the program in this process."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")

    def call(*arguments: object) -> Ended:
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        return Ended(code, *capsys.readouterr())

    return call


@pytest.fixture
def analyse(run, net, tmp_path):
    """Analyse the user's model on 20 digits, with further or other options."""

    def call(*arguments, model=net, data="digits", n=20, out=None):
        given = ["--data", data] if data else []
        out = out or tmp_path / "s.json"
        return run("sensitivity", model, *given, "--n", n, "-o", out, *arguments)

    return call


def test_it_writes_a_file_that_reads_back_and_a_table(analyse, net, tmp_path) -> None:
    ended = analyse("--json", "--grid", "0.25,0.5", "--saliency", "l2")
    assert ended.code == 0, ended.err
    graph = psvit.capture(load_model(net).model, torch.rand(2, 1, 16, 16))
    curves = read_curves(tmp_path / "s.json")
    assert curves.fingerprint == psvit.groups.fingerprint(graph)
    assert [p.ratio for p in curves.points] == [0.25, 0.5, 0.25, 0.5]
    assert curves.settings["data"] == "digits"
    assert curves.settings["saliency"] == "l2"
    assert {p.n for p in curves.points} == {16}  # a twentieth of 20 images is one first look
    assert curves.dense.n == 16
    assert "16 images a point" in ended.err
    assert set(curves.points[0].saved) == {"memory", "params", "macs", "sops", "energy"}
    assert json.loads(ended.out) == json.loads((tmp_path / "s.json").read_text())
    names = {p.name for p in tmp_path.iterdir()} - {"__pycache__"}
    assert names == {"net.py", "s.json", "s.csv"}  # the journal is gone
    assert "points lost" in ended.err
    assert "stem" in ended.err


def test_full_measures_every_point_on_all_images(analyse, tmp_path) -> None:
    assert analyse("--full", "--grid", "0.5", "--memory-limit", "200MB").code == 0
    curves = read_curves(tmp_path / "s.json")
    assert {p.n for p in curves.points} == {20}
    assert curves.settings["race"] is None


def test_labels_can_be_left_out(analyse) -> None:
    ended = analyse("--json", "--no-labels", "--grid", "0.5")
    data = json.loads(ended.out)
    assert data["dense"]["accuracy"] is None
    assert {p["accuracy_drop"] for p in data["points"]} == {None}
    assert "points lost" not in ended.err


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(
    analyse, tmp_path, monkeypatch
) -> None:
    assert analyse("--grid", "0.25,0.5").code == 0
    whole = (tmp_path / "s.json").read_bytes()
    (tmp_path / "s.json").unlink()
    measure, done = sweep_file.measure, []

    def stop(*arguments):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(measure(*arguments))
        return done[-1]

    monkeypatch.setattr(sweep_file, "measure", stop)
    ended = analyse("--grid", "0.25,0.5")
    assert ended.code == 130
    line = ended.err.splitlines()[-1]
    assert "interrupted; what is done is kept in" in line
    assert "the same command goes on from it" in line
    assert not (tmp_path / "s.json").exists()
    monkeypatch.setattr(sweep_file, "measure", measure)
    ended = analyse("--grid", "0.25,0.5")
    assert "going on from" in ended.err
    assert (tmp_path / "s.json").read_bytes() == whole


def test_kill_9_in_the_middle_and_the_same_command_again(analyse, net, tmp_path) -> None:
    options = ["--grid", "0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8"]
    assert analyse(*options).code == 0
    whole = (tmp_path / "s.json").read_bytes()
    slow = NET.replace('print("a model that prints")', "import time; time.sleep(0.05)")
    (tmp_path / "net.py").write_text(slow)
    out = tmp_path / "t.json"
    process = subprocess.Popen(
        [sys.executable, "-m", "psvit", "sensitivity", net, "--data", "digits", "--n", "20",
         "-o", str(out), "--batch-size", "20", *options],
        stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    journal = tmp_path / "t.json.journal"
    deadline = time.monotonic() + 120
    while not journal.exists() or journal.read_bytes().count(b"\n") < 2:
        assert time.monotonic() < deadline
        if process.poll() is not None:
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) in (-signal.SIGKILL, 0)
    (tmp_path / "net.py").write_text(NET)
    ended = analyse(*options, "--force", out=out)
    assert ended.code == 0, ended.err
    assert out.read_bytes() == whole
    assert not journal.exists()


def refused(ended: Ended, tmp_path: Path, code: int = 2) -> str:
    """The one line of an error."""
    assert ended.code == code, ended.err
    assert ended.out == ""
    assert "Traceback" not in ended.err
    line = ended.err.splitlines()[-1]
    assert line.startswith("psvit: error: ")
    assert not (tmp_path / "s.json").exists()
    return line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--grid", "0,0.5"), "the grid has the ratio 0.0"),
        (("--grid", "0.5,1"), "the grid has the ratio 1.0"),
        (("--grid", "25,50"), "for 25 % give 0.25"),
        (("--grid", "much"), "--grid 'much': expected ratios between 0 and 1"),
        (("--grid", ""), "expected ratios between 0 and 1"),
        (("--n", "1"), "--n is 1, expected 2 images or more"),
        (
            ("--n", "5000"),
            "--n is 5000, but digits has 1438 images to train on: ask for 1438 or fewer",
        ),
        (("--cost", "0"), "the share of the cost is 0.0, expected a fraction above 0"),
        (("--memory-limit", "2"), "--memory-limit '2': expected an amount of memory such as 2GB"),
        (("--memory-limit", "1kB"), "the memory limit is 0 MiB, but a forward of one image takes"),
        (("--saliency", "l3"), "no saliency is called 'l3'"),
        (("--device", "abacus"), "--device 'abacus' cannot be used"),
    ],
)
def test_options_that_mean_nothing(analyse, tmp_path, arguments, words) -> None:
    assert words in refused(analyse(*arguments), tmp_path)


def test_data_that_nothing_names(analyse, tmp_path) -> None:
    assert "give --data DATA" in refused(analyse(data=None), tmp_path)


def test_files_that_cannot_be_written(analyse, tmp_path) -> None:
    (tmp_path / "folder").mkdir()
    assert "is a folder" in refused(analyse(out=tmp_path / "folder"), tmp_path)
    assert "is no folder" in refused(analyse(out=tmp_path / "no" / "s.json"), tmp_path)
    assert "give a name in .json" in refused(analyse(out=tmp_path / "s.csv"), tmp_path)


def test_a_file_that_exists_is_replaced_only_by_force_and_only_if_it_is_psvits(
    analyse, tmp_path
) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"my": "thesis"}')
    assert "x.json exists: give another file, or --force" in refused(analyse(out=path), tmp_path)
    line = refused(analyse("--force", out=path), tmp_path)
    assert "is not a file that psvit sensitivity wrote, so it is not replaced" in line
    assert path.read_text() == '{"my": "thesis"}'


def test_a_journal_of_another_analysis(analyse, tmp_path, monkeypatch) -> None:
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep_file, "measure", stop)
    assert analyse().code == 130
    line = refused(analyse(n=30), tmp_path)
    assert "s.json.journal is the journal of another analysis: its n is 20, now 30" in line
    line = refused(analyse("--model-arg", "width=8"), tmp_path)
    assert "it is of another model" in line
