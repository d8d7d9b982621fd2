"""`psvit prune` keeps its analysis beside OUT until it is done, and goes on from it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from psvit import whole_plans as plans_source
from psvit.sensitivity import sweep as sweep_file
from tests.cli.conftest import NET

OPTIONS = ("--data", "digits", "--n", 24, "--limit", 32, "--method", "psvit", "--seed", 3)


@pytest.fixture
def prune(run, net, tmp_path):
    """Run `psvit prune` guided by an analysis of 24 digits."""

    def call(*arguments, out="out"):
        return run("prune", net, *OPTIONS, "-o", tmp_path / out, "--json", *arguments)

    return call


def stop_after(points, monkeypatch):
    """Ctrl-C in the analysis once so many points are done."""
    measure, done = sweep_file.measure, []

    def stop(*arguments):
        if len(done) == points:
            raise KeyboardInterrupt
        done.append(measure(*arguments))
        return done[-1]

    monkeypatch.setattr(sweep_file, "measure", stop)
    return lambda: monkeypatch.setattr(sweep_file, "measure", measure)


def stoppable(name, monkeypatch):
    """Ctrl-C once whole plans were run so often; who asked, and what sets how often."""
    real, asked = getattr(plans_source, name), []

    def stop_at(most):
        def stop(*arguments, **options):
            if len(asked) == most:
                raise KeyboardInterrupt
            asked.append(1)
            return real(*arguments, **options)

        monkeypatch.setattr(plans_source, name, stop)

    return asked, stop_at


def kept(folder):
    """What is in a folder beside the model file."""
    return sorted(p.name for p in folder.iterdir() if p.name not in ("net.py", "__pycache__"))


def test_ctrl_c_keeps_the_analysis_and_the_same_command_goes_on(prune, tmp_path, monkeypatch):
    assert prune("--save", "memory=30%", out="whole").code == 0
    again = stop_after(2, monkeypatch)
    ended = prune("--save", "memory=30%")
    assert ended.code == 130
    assert "what is done is kept in" in ended.err.splitlines()[-1]
    assert kept(tmp_path) == ["out.sensitivity.journal", "whole"]
    again()
    ended = prune("--save", "memory=30%")
    assert ended.code == 0, ended.err
    assert "going on from" in ended.err
    assert kept(tmp_path) == ["out", "whole"]
    for name in ("sensitivity.json", "plan.json", "model.safetensors"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_ctrl_c_in_the_search_keeps_what_was_measured(prune, tmp_path, monkeypatch):
    options = ("--save", "memory=30%", "--method", "optimal")
    assert prune(*options, out="whole").code == 0
    asked, stop_at = stoppable("predict", monkeypatch)
    stop_at(12)
    ended = prune(*options)
    assert ended.code == 130
    journal = "out.sensitivity.journal"
    assert kept(tmp_path) == [journal, f"{journal}.plans", "whole"]
    before = len((tmp_path / f"{journal}.plans").read_text().splitlines())
    asked.clear()
    stop_at(10**6)
    ended = prune(*options)
    assert ended.code == 0, ended.err
    rest = len(asked)
    asked.clear()
    assert prune(*options, out="other").code == 0
    assert rest == len(asked) - (before - 1)
    assert kept(tmp_path) == ["other", "out", "whole"]
    for name in ("sensitivity.json", "plan.json", "model.safetensors"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_ctrl_c_in_the_checks_of_a_bound_keeps_what_was_measured(prune, tmp_path, monkeypatch):
    options = ("--max-drop", 10)
    asked, stop_at = stoppable("right_images", monkeypatch)
    stop_at(10**6)
    assert prune(*options, out="whole").code == 0
    whole = len(asked)
    assert whole >= 2  # the model itself, and a plan
    asked.clear()
    stop_at(1)
    assert prune(*options).code == 130
    asked.clear()
    stop_at(10**6)
    ended = prune(*options)
    assert ended.code == 0, ended.err
    assert len(asked) == whole - 1
    assert kept(tmp_path) == ["out", "whole"]
    for name in ("sensitivity.json", "plan.json", "model.safetensors"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.thorough
def test_kill_9_in_the_middle_loses_no_point(prune, net, tmp_path):
    assert prune("--save", "memory=30%", out="whole").code == 0
    slow = NET.replace('print("a model that prints")', "import time; time.sleep(0.05)")
    (tmp_path / "net.py").write_text(slow)
    command = [sys.executable, "-m", "psvit", "prune", net, *map(str, OPTIONS),
               "--save", "memory=30%", "-o", str(tmp_path / "out")]  # fmt: skip
    process = subprocess.Popen(
        command, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    journal = tmp_path / "out.sensitivity.journal"
    deadline = time.monotonic() + 120
    while not journal.exists() or journal.read_bytes().count(b"\n") < 3:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    assert kept(tmp_path) == ["out.sensitivity.journal", "whole"]
    (tmp_path / "net.py").write_text(NET)
    ended = prune("--save", "memory=30%")
    assert ended.code == 0, ended.err
    for name in ("sensitivity.json", "plan.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_budget_out_of_reach_keeps_the_analysis_for_another(prune, tmp_path, monkeypatch):
    ended = prune("--save", "memory=60%", "--max-drop", 0)
    assert ended.code == 3, ended.err
    assert "for the same command with other budgets" in ended.err
    measured = []
    monkeypatch.setattr(sweep_file, "measure", lambda *a: measured.append(a))
    ended = prune("--save", "memory=30%", "--max-drop", 90)
    assert ended.code == 0, ended.err
    assert measured == []
    assert kept(tmp_path) == ["out"]


def test_out_in_a_folder_that_is_not_there_yet(prune, tmp_path):
    ended = prune("--save", "memory=30%", out="runs/today/out")
    assert ended.code == 0, ended.err
    assert kept(tmp_path) == ["runs"]
    assert json.loads(ended.out)["after"]["n"] == 32
