"""Commands in processes that were started together: they share the work, or refuse in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest


def test_an_evaluation_is_shared_and_comes_to_the_same(run, tmp_path):
    alone = run("evaluate", "spikformer-digits", "--data", "digits", "--json", "--batch-size", 32)
    journal = tmp_path / "e.journal"
    command = [sys.executable, "-m", "psvit", "evaluate", "spikformer-digits", "--data", "digits",
               "--json", "--batch-size", "32", "--journal", str(journal)]  # fmt: skip
    team = [
        subprocess.Popen(
            command,
            env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    (out, err), (other_out, other_err) = (one.communicate(timeout=300) for one in team)
    assert [one.returncode for one in team] == [0, 0], err + other_err
    found, expected = json.loads(out), json.loads(alone.out)
    for figure in ("accuracy", "accuracy_low", "accuracy_high", "n"):
        assert found[figure] == expected[figure]
    assert (other_out, other_err) == ("", "")  # one talks
    assert not journal.exists()


CUT = ["spikformer-digits", "--save", "memory=10%", "-o", "OUT"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evaluate", "spikformer-digits"], "to share the work, give --journal FILE"),
        (["prune", *CUT], "psvit prune runs in one process"),
        (["compare", *CUT], "psvit compare runs in one process"),
        (["bench", "OUT"], "psvit bench runs in one process, but 3 were started together"),
        (["export", "spikformer-digits", "-o", "x.onnx"], "psvit export runs in one process"),
    ],
)
def test_what_cannot_be_shared_says_so(run, monkeypatch, tmp_path, arguments, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "3")
    ended = run(*arguments)
    assert ended.code == 2
    assert words in ended.err
    assert ended.err.count("\n") == 1
    assert not list(tmp_path.iterdir())
