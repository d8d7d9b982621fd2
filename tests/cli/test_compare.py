"""`psvit compare`: its table, its folder, how it goes on, the report's frontier, and bad input."""

from __future__ import annotations

import io
import json
import re

import pytest
from rich.console import Console

import psvit
from psvit.compare import run as run_file
from psvit.compare.files import read_comparison
from psvit.compare.table import comparison_table, notes
from tests.compare.small import made_up


@pytest.fixture
def compare(run, net, tmp_path):
    """Run `psvit compare` on a small network and some digits."""

    def call(*arguments, save="memory=20%,40%", data="digits", out="out", model=net):
        given = ["--data", data] if data else []
        return run("compare", model, *given, "--n", 24, "--limit", 64, "--save", save,
                   "-o", tmp_path / out, *arguments)  # fmt: skip

    return call


FEW = ("--methods", "uniform-l2,unstructured")


def kept(folder):
    """What is in a folder beside the model file."""
    return sorted(p.name for p in folder.iterdir() if p.name not in ("net.py", "__pycache__"))


def error_of(ended, code=2) -> str:
    """The one line of an error."""
    assert ended.code == code, ended.err
    assert ended.out == ""
    assert "Traceback" not in ended.err
    lines = ended.err.splitlines()
    assert lines[-1].startswith("psvit: error: ")
    return lines[-1].removeprefix("psvit: error: ")


@pytest.mark.parametrize("recover", ["none", "bn"])
def test_the_table(same_as_golden, recover):
    comparison = made_up(recover == "bn")
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(comparison_table(comparison))
    table = console.export_text()
    assert all(len(line) <= 80 for line in table.splitlines())
    same_as_golden(f"compare-{recover}", "\n".join([table, *notes(comparison)]))


def test_it_writes_a_folder_and_prints_json(compare, tmp_path):
    ended = compare(*FEW, "--json", "--recover", "bn")
    assert ended.code == 0, ended.err
    data = json.loads(ended.out)
    assert kept(tmp_path) == ["out"]
    assert kept(tmp_path / "out") == ["compare.html", "compare.json", "compare.svg"]
    assert json.loads((tmp_path / "out" / "compare.json").read_text()) == data
    assert [(r["method"], r["budget"]) for r in data["results"]] == [
        (method, {"memory": share})
        for share in (0.2, 0.4)
        for method in ("uniform-l2", "unstructured")
    ]
    assert data["dense"]["figures"]["n"] == data["control"]["figures"]["n"] == 64
    assert data["settings"]["command"].startswith("psvit compare ")
    for word in ("dense, recovered", "memory 40%", "uniform-l2", "keeps its size"):
        assert word in ended.err
    again = compare(*FEW, "--force")
    assert again.code == 0, again.err


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(compare, tmp_path, monkeypatch):
    assert compare(*FEW, out="whole").code == 0
    pruned, done = run_file.pruned, []

    def stop(*arguments):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(arguments)
        return pruned(*arguments)

    monkeypatch.setattr(run_file, "pruned", stop)
    ended = compare(*FEW)
    assert ended.code == 130
    assert "what is done is kept in" in ended.err.splitlines()[-1]
    assert kept(tmp_path) == ["out.journal", "whole"]
    monkeypatch.setattr(run_file, "pruned", lambda *a: done.append(a) or pruned(*a))
    ended = compare(*FEW)
    assert ended.code == 0, ended.err
    assert "going on from" in ended.err
    assert len(done) == 4
    assert kept(tmp_path) == ["out", "whole"]
    here, there = (read_comparison(tmp_path / name) for name in ("out", "whole"))
    assert here.cells == there.cells
    assert here.dense == there.dense


def test_the_report_shows_the_methods_and_keeps_them(compare, run, net, tmp_path):
    assert compare("--methods", "random,uniform-l1,unstructured").code == 0
    small = tmp_path / "small"
    options = ("--data", "digits", "--limit", 64, "--save", "memory=30%", "-o", small)
    assert run("prune", net, *options).code == 0
    ended = run("report", small, "--compare", tmp_path / "out")
    assert ended.code == 0, ended.err
    for again in (False, True):  # from the folder alone
        if again:
            assert run("report", small).code == 0
        page = (small / "report.html").read_text()
        assert "Accuracy of the methods tried" in page
        assert len(re.findall('<th scope="row">(?:random|uniform-l1)</th>', page)) == 4
        assert "unstructured" not in page
    trials = json.loads((small / "metrics.json").read_text())["methods"]
    assert [t["method"] for t in trials] == ["random", "uniform-l1"] * 2
    assert all(t["low"] <= t["accuracy"] <= t["high"] for t in trials)
    other = ("--data", "digits", "--limit", 32, "--save", "memory=30%", "-o", tmp_path / "b")
    assert run("prune", net, *other).code == 0
    line = error_of(run("report", tmp_path / "b", "--compare", tmp_path / "out"))
    assert "was judged on other images (its limit is 64" in line
    wide = (*options[:-1], tmp_path / "c", "--model-arg", "width=12")
    assert run("prune", net, *wide).code == 0
    line = error_of(run("report", tmp_path / "c", "--compare", tmp_path / "out"))
    assert "the comparison is of another model" in line
    assert "does not exist" in error_of(run("report", small, "--compare", tmp_path / "no.json"))


@pytest.mark.parametrize(
    ("arguments", "options", "code", "words"),
    [
        ((), {"save": "memory=20%,22.4"}, 2, "write 22.4% for per cent"),
        ((), {"save": "memory=20%,"}, 2, "--save 'memory=': expected UNIT=SHARE"),
        ((), {"save": "memory=20%,20%"}, 2, "the level memory 20% is given twice"),
        (("--save", "macs=20%"), {}, 2, "2 of memory, 1 of macs"),
        (("--save", "memory=30%"), {}, 2, "--save memory is given twice"),
        (("--methods", "best"), {}, 2, "no method is called 'best'"),
        (("--methods", ""), {}, 2, "no method is called ''"),
        (("--recover", "magic"), {}, 2, "no recovery is called 'magic'"),
        (("--saliency", "l3"), {}, 2, "no saliency is called 'l3'"),
        ((), {"data": None}, 2, "give --data DATA"),
        ((), {"save": "memory=20%,99%"}, 3, "cannot save 99.00% of memory: at most"),
        (("--sensitivity", "no.json"), {}, 2, "no.json does not exist"),
        (("--n", 5000), {}, 2, "is to use 5,000 images, the data has 1,438"),
        (("--device", "abacus"), {}, 2, "--device 'abacus' cannot be used"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    compare, tmp_path, arguments, options, code, words
):
    line = error_of(compare(*arguments, **options), code)
    assert words in line
    assert kept(tmp_path) == []


def test_a_folder_that_is_not_psvits_is_not_replaced(compare, tmp_path):
    (tmp_path / "out").mkdir()
    assert "exists: give another folder, or --force" in error_of(compare())
    (tmp_path / "out" / "thesis.tex").touch()
    assert "not a folder that psvit wrote" in error_of(compare("--force"))
    assert compare(*FEW, out="mine").code == 0
    (tmp_path / "mine" / "thesis.tex").touch()
    assert "holds thesis.tex, which psvit did not write" in error_of(compare("--force", out="mine"))


def test_a_disk_that_is_full_at_the_end_keeps_the_results(compare, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise psvit.OutputError("cannot write out: No space left on device")

    monkeypatch.setattr("psvit.cli.compare.write_comparison", full)
    assert "No space left" in error_of(compare(*FEW))
    assert kept(tmp_path) == ["out.journal"]
