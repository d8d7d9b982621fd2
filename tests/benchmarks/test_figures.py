"""The command that runs all benchmarks, on parts that take no time."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import pytest

from benchmarks import figures
from benchmarks.figures import Run, collect
from benchmarks.parts import PARTS, Part
from tests.benchmarks.fakes import ABOUT, part

HERE = Path(__file__).parent


def python(name: str, code: str) -> Part:
    return Part(name, f'-c "{code}"', f'-c "{code}"', "0")


def read(out: Path) -> dict[str, dict[str, object]]:
    (path,) = out.glob("figures-*.json")
    return {one["name"]: one for one in json.loads(path.read_text())["parts"]}


def begun(out: Path) -> list[str]:
    return (out / "log").read_text().split()


def test_what_fails_stops_no_other_and_what_ended_well_is_not_run_again(tmp_path: Path) -> None:
    fails = python("fails", "raise SystemExit('no such thing | here')")
    silent = python("silent", "pass")
    parts = [part("one"), fails, silent, Part("data", "-c 0 data/x.bin", "-c 0", "0"), part("two")]
    run = Run(tmp_path, False, {}, ABOUT, "abc")
    assert not collect(parts, run, chosen=[], again=False)
    found = read(tmp_path)
    assert {name: one["ended"] for name, one in found.items()} == {
        "one": "well",
        "fails": "with exit code 1: no such thing | here",
        "silent": "without having written anything",
        "data": "left out: needs --data with x.bin in it",
        "two": "well",
    }
    assert "one.md" in found["one"]["wrote"]
    text = (tmp_path / f"figures-{date.today()}.md").read_text()
    assert "[one.md](one.md)" in text
    assert "no such thing \\| here" in text
    assert "a machine, 2 cores" in text
    assert "4 of 5 parts have been run, 1 left out" in text
    assert str(tmp_path) not in text
    mended = [part("fails") if one.name == "fails" else one for one in parts if one is not silent]
    assert collect([*mended, part("silent")], run, chosen=[], again=False)
    assert begun(tmp_path) == ["one", "two", "fails", "silent"]
    assert collect(parts, run, chosen=["one"], again=True)
    assert begun(tmp_path)[-1] == "one"


@pytest.mark.parametrize("with_what", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_run_goes_on(tmp_path: Path, with_what: signal.Signals) -> None:
    command = [sys.executable, "-m", "tests.benchmarks.fakes", str(tmp_path)]
    child = subprocess.Popen([*command, "sleep"], stderr=subprocess.DEVNULL, cwd=HERE.parents[1])
    while not (tmp_path / "two.started").exists() or not (tmp_path / "two.started").read_text():
        assert child.poll() is None
        time.sleep(0.02)
    asleep = int((tmp_path / "two.started").read_text())
    child.send_signal(with_what)
    assert child.wait() != 0
    if with_what == signal.SIGKILL:
        os.kill(asleep, signal.SIGKILL)
    else:
        with pytest.raises(ProcessLookupError):  # what it ran has ended with it
            os.kill(asleep, 0)
    done = subprocess.run([*command, "go"], cwd=HERE.parents[1], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert begun(tmp_path) == ["one", "two", "two", "three"]
    assert {one["ended"] for one in read(tmp_path).values()} == {"well"}


def test_a_run_of_yesterday_goes_on_and_one_of_other_versions_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, parts = Run(tmp_path, False, {}, ABOUT, "abc"), [part("one"), part("two")]
    collect(parts, run, chosen=["one"], again=False)
    for path in list(tmp_path.glob("figures-*")):
        path.rename(tmp_path / f"figures-2020-01-01{path.suffix}")
    assert collect(parts, run, chosen=[], again=False)
    assert begun(tmp_path) == ["one", "two"]
    assert list(read(tmp_path)) == ["one", "two"]
    assert collect(parts, run, chosen=[], again=False)  # a new day, nothing left of the old one
    assert begun(tmp_path) == ["one", "two"] * 2
    other = Run(tmp_path, False, {}, {**ABOUT, "versions": {"torch": "3"}}, "abc")
    assert collect(parts, other, chosen=[], again=False)
    assert begun(tmp_path) == ["one", "two"] * 3


def test_what_ended_well_at_another_commit_stays_until_it_is_run_again(tmp_path: Path) -> None:
    parts = [part("one"), part("two")]
    for commit, chosen in (("abc", []), ("def", ["two"]), ("def", [])):
        assert collect(parts, Run(tmp_path, False, {}, ABOUT, commit), chosen=chosen, again=False)
        found = read(tmp_path)
        assert {name: one["commit"] for name, one in found.items()} == {
            "one": "abc" if chosen or commit == "abc" else "def",
            "two": commit,
        }
    assert begun(tmp_path) == ["one", "two", "two", "one"]
    assert "| abc |" not in (tmp_path / f"figures-{date.today()}.md").read_text()


def test_every_part_is_there_and_has_a_name_of_its_own() -> None:
    assert len({part.name for part in PARTS}) == len(PARTS)
    for one in PARTS:
        for quick in (False, True):
            flag, module, *_ = one.words(quick)
            assert flag == "-m"
            assert importlib.util.find_spec(module) is not None, module


@pytest.mark.parametrize("words", [["--data", "nowhere"], ["--only", "nonsense"]])
def test_bad_input_is_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        figures.main(words)
    assert words[1] in capsys.readouterr().err.splitlines()[-1]
