"""`psvit prune` with methods that an analysis guides, with amounts, and with bounds on accuracy."""

from __future__ import annotations

import json

import pytest

from psvit import latency
from psvit.cost import LatencyTable


@pytest.fixture
def prune(run, net, tmp_path):
    """Run `psvit prune` on a small network and the digits, with few images."""

    def call(*arguments, data="digits", out="out"):
        given = ["--data", data, "--n", 24] if data else []
        return run("prune", net, *given, "--json", "-o", tmp_path / out, "--limit", 64, *arguments)

    return call


def error_of(ended, code=2) -> str:
    assert ended.code == code, ended.err
    assert "Traceback" not in ended.err
    return ended.err.splitlines()[-1].removeprefix("psvit: error: ")


def saved(ended, figure: str) -> float:
    assert ended.code == 0, ended.err
    data = json.loads(ended.out)
    return data["before"][figure] - data["after"][figure]


@pytest.mark.parametrize("method", ["psvit", "primesvt", "optimal"])
def test_a_method_that_an_analysis_guides_meets_the_budgets(prune, method):
    ended = prune("--method", method, "--save", "memory=30%", "--save", "params=0.2k")
    whole = json.loads(ended.out)["before"]["memory_bytes"]
    assert saved(ended, "memory_bytes") >= 0.3 * whole
    assert saved(ended, "params") >= 200
    settings = json.loads(ended.out)["settings"]
    assert settings["saliency"] == ("l2" if method == "primesvt" else "l1")


def test_an_analysis_is_read_from_its_file_with_its_ranking(prune, run, net, tmp_path):
    file = tmp_path / "s.json"
    made = ("--data", "digits", "--n", 24, "--saliency", "bn", "-o", file)
    assert run("sensitivity", net, *made).code == 0
    ended = prune(
        *("--method", "psvit", "--save", "params=30%", "--sensitivity", file),
        *("--input-shape", "1,8,8"),
        data=None,
    )  # without data nothing is measured
    assert json.loads(ended.out)["settings"]["saliency"] == "bn"
    told = ("--method", "psvit", "--save", "params=30%", "--sensitivity", file)
    line = error_of(prune(*told, "--saliency", "l2", out="b"))
    assert "--saliency l2: the sensitivity file was made with bn" in line
    assert "is of another model" in error_of(prune(*told, "--model-arg", "width=12", out="b"))
    absent = ("--save", "params=30%", "--sensitivity", "absent.json")
    assert "does not exist" in error_of(prune(*absent, out="b"))


def test_the_smallest_model_within_a_bound_on_accuracy(prune):
    ended = prune("--method", "optimal", "--max-drop", 50)
    assert saved(ended, "params") > 0
    assert json.loads(ended.out)["settings"]["max_drop"] == 0.5


def test_what_is_missing_or_means_nothing_is_one_line(prune):
    for arguments, words in (
        ((), "no budget was given"),
        (("--save", "params=5"), "write 5% for per cent"),
        (("--save", "params=0k"), "expected an amount above 0"),
        (("--save", "memory=1.2 parsecs"), "'parsecs' is no unit of memory"),
        (("--max-drop", -1), "--max-drop is -1, expected points of accuracy from 0 to 100"),
        (("--min-accuracy", 70), "expected a share such as 70% or 0.7; write 70% for per cent"),
        (("--min-accuracy", "high"), "--min-accuracy 'high': expected a share"),
        (("--min-accuracy", "1%", "--max-drop", 1), "both given"),
        (("--min-accuracy", "99.9%"), "min_accuracy is 99.90%, above the"),
    ):
        assert words in error_of(prune(*arguments)), arguments
    blind = ("--save", "params=30%", "--input-shape", "1,8,8")
    line = error_of(prune("--method", "psvit", *blind, data=None))
    assert "method 'psvit' is guided by a sensitivity analysis: give training data" in line
    line = error_of(prune("--save", "sops=30%", "--input-shape", "1,8,8", data=None))
    assert "needs the firing rates of the model: give training data" in line


def test_budgets_out_of_reach_exit_3(prune):
    assert "the whole model has" in error_of(prune("--save", "params=5M"), 3)
    assert "is reachable" in error_of(prune("--method", "optimal", "--save", "params=99%"), 3)


def test_a_sensitivity_file_that_does_not_serve_is_refused(prune, run, net, tmp_path):
    def analysed(name, *options):
        file = tmp_path / name
        made = ("--data", "digits", "--n", 24, "-o", file, *options)
        assert run("sensitivity", net, *made).code == 0
        return file

    blind = analysed("blind.json", "--no-labels")
    told = ("--method", "psvit", "--input-shape", "1,8,8", "--sensitivity")
    line = error_of(prune(*told, blind, "--max-drop", 1, data=None))
    assert "was made without labels, so it knows no accuracy" in line
    other = ("--method", "psvit", "--save", "params=30%", "--sensitivity", blind)
    line = error_of(prune(*other, data=f"folder:{tmp_path}"))
    assert f"was made on digits, not on folder:{tmp_path}" in line
    newer = json.loads(blind.read_text())
    newer["psvit_sensitivity"] = 99
    (tmp_path / "newer.json").write_text(json.dumps(newer))
    again = ("--method", "psvit", "--save", "params=30%", "--sensitivity", tmp_path / "newer.json")
    assert "has version 99, this psvit reads version 1" in error_of(prune(*again))
    assert not (tmp_path / "out").exists()


def test_what_prune_analysed_guides_another_prune_by_the_same_ranking(prune, tmp_path):
    first = prune("--method", "psvit", "--save", "params=20%", "--saliency", "l2", out="a")
    assert first.code == 0, first.err
    file = tmp_path / "a" / "sensitivity.json"
    again = prune("--method", "psvit", "--save", "params=30%", "--sensitivity", file, out="b")
    assert json.loads(again.out)["settings"]["saliency"] == "l2"
    line = error_of(
        prune("--method", "psvit", "--save", "params=30%", "--sensitivity", file, "--saliency",
              "l1", out="c")
    )  # fmt: skip
    assert "the sensitivity file was made with l2" in line


def test_more_images_than_there_are(prune, tmp_path):
    line = error_of(prune("--method", "psvit", "--save", "params=30%", "--n", 5000))
    assert "is to use 5,000 images, the data has 1,438: ask for at most 1438" in line
    assert not list(tmp_path.glob("out*"))


def _steady_table(meter, graph, groups, nodes, machine, device, batch, *align) -> LatencyTable:
    """What a machine would measure on which every operation takes as long as it has work."""
    curves = {node.kind: [(0.25, 0.25), (1.0, 1.0)] for node in nodes}
    dense, small = float(len(nodes)), len(nodes) / 4
    return LatencyTable(curves, [(dense, dense), (small, small)], machine, batch)


def test_a_budget_in_latency_is_checked_by_measuring(prune, run, tmp_path, monkeypatch):
    monkeypatch.setenv("PSVIT_CACHE", str(tmp_path / "cache"))
    # a network too small to time: neither its layers nor its pace of now
    monkeypatch.setattr(latency, "measure_table", _steady_table)
    monkeypatch.setattr(latency, "read_table", lambda *a: None)
    ended = prune("--save", "latency=99.9%", "--input-shape", "1,8,8", data=None)
    line = error_of(ended, code=3)
    assert "cannot save 99.90% of latency: at most" in line
    assert " ms)" in line
    assert not (tmp_path / "out").exists()
    reachable = float(line.partition("at most ")[2].partition("%")[0])
    ended = prune("--save", f"latency={reachable / 2}%", "--input-shape", "1,8,8", data=None)
    assert ended.code == 0, ended.err
    assert " ms predicted, " in ended.err
    check = json.loads((tmp_path / "out" / "metrics.json").read_text())["latency_check"]
    assert check["saved_predicted"] >= reachable / 200 - 1e-9
    assert check["measured_ms"] > 0
    assert " ms predicted, " in (tmp_path / "out" / "report.html").read_text()
