"""The page comes with a pruned folder, and can be made again from the folder alone."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import psvit
from psvit.artefacts import save
from psvit.artefacts.folder import CURVES, METRICS, REPORT
from psvit.cli.app import main
from psvit.errors import OutputError, PlanError
from psvit.records import Curves, Figures, Point
from psvit.report.page import render
from psvit.report.rebuild import report_data, write_report
from psvit.sensitivity import curves_to_json
from tests.artefacts.models import images, pruned, trained
from tests.cli.conftest import NET


def extras(out: Path):
    return {REPORT: lambda folder: render(report_data(folder, name=out.name))}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    save(pruned(), tmp_path / "out", extras=extras(tmp_path / "out"))
    return tmp_path / "out"


def analysis(fingerprint: str, ties: dict[int, str]) -> Curves:
    points = tuple(
        Point(tie, removed / 12, removed, 64, 0.01 * removed, 0.0, 1.0, 0.002 * removed, -0.01,
              0.1, 0.0, 0.0, {"memory": 100.0 * removed})
        for tie in ties
        for removed in (1, 23)
    )  # fmt: skip
    return Curves(fingerprint, {}, ties, Figures(1000, 250, 10), points)


def test_rebuilding_gives_the_same_bytes(out):
    first = (out / REPORT).read_bytes()
    (out / REPORT).unlink()
    assert write_report(out) == out / REPORT
    assert (out / REPORT).read_bytes() == first
    assert sorted(p.name for p in out.iterdir()) == [
        "README.md", "config.json", "metrics.json", "model.safetensors", "plan.json", "report.html",
    ]  # fmt: skip


def test_prune_writes_the_page_with_the_command_that_was_typed(tmp_path, capsys):
    (tmp_path / "net.py").write_text(NET)
    typed = ["prune", f"{tmp_path}/net.py:Net", "--input-shape", "1,8,8", "--save", "memory=30%",
             "-o", f"{tmp_path}/a b"]  # fmt: skip
    assert main(typed) == 0, capsys.readouterr().err
    out = tmp_path / "a b"
    page = (out / REPORT).read_text()
    assert report_data(out).command == shlex.join(["psvit", *typed])
    assert "--save memory=30%" in page
    assert main(["report", str(out)]) == 0
    assert (out / REPORT).read_text() == page


def test_a_report_that_fails_leaves_no_folder(tmp_path):
    def fail(folder: Path) -> str:
        assert (folder / METRICS).is_file()
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="No space left"):
        save(pruned(), tmp_path / "deep" / "out", extras={REPORT: fail})
    assert list(tmp_path.iterdir()) == []


def test_page_names_what_is_locked_and_what_it_was_made_from(out):
    page = (out / REPORT).read_text()
    plan = json.loads((out / "plan.json").read_text())
    assert "the model&#x27;s output" in page
    assert plan["fingerprint"] in page
    assert "psvit.load(&#x27;out&#x27;)" in page
    assert "float32 [batch, 1, 8, 8]" in page


def test_channels_told_as_removed_are_those_of_the_plan(out):
    data, plan = report_data(out), json.loads((out / "plan.json").read_text())
    by_name = {g.name: g for g in data.groups}
    kept = plan["keep"]["up.weight"]["0"]
    assert set(by_name["up"].removed) == set(range(24)) - set(kept)
    # the groups of mix lose as many each, the least important of each first
    for group in data.groups:
        assert len(group.removed) == group.before - group.after
        if group.removed:
            level = (group.before - group.after) // group.cells
            taken = {c for c in range(group.before) if group.order[c] < level}
            assert set(group.removed) == taken, group.name


def test_path_rises_from_nothing_to_the_most_and_holds_this_model(out):
    steps = report_data(out).path
    saved = [step.saved["memory"] for step in steps]
    assert saved == sorted(saved)
    assert saved[0] == 0
    assert saved[-1] > 0.9
    assert [step.this for step in steps].count(True) == 1
    for narrow, wide in zip(steps[1:], steps, strict=False):
        assert all(n <= w for n, w in zip(narrow.widths, wide.widths, strict=True))
    whole = json.loads((out / METRICS).read_text())
    mine = next(step for step in steps if step.this)
    left = whole["after"]["memory_bytes"] / whole["before"]["memory_bytes"]
    assert mine.saved["memory"] == pytest.approx(1 - left)


def test_path_is_what_pruning_to_that_budget_takes(out):
    result = pruned()
    step = result.path.steps[len(result.path.steps) // 2]
    again = psvit.prune(trained(), images(), save={"memory": step.saved["memory"] - 1e-9})
    assert tuple(width.after for width in again.plan.widths) == step.widths


def test_metrics_are_readable_and_unchanged_by_how_they_are_laid_out(out):
    text = (out / METRICS).read_text()
    assert json.loads(text)["groups"][0].keys() >= {"name", "role", "locked", "removed", "tie"}
    assert max(map(len, text.splitlines())) > 40  # numbers of a list share a line
    assert text.count("\n") < 1500


def test_with_an_analysis_the_slider_predicts(out):
    plan, stories = (json.loads((out / n).read_text()) for n in ("plan.json", METRICS))
    ties = {s["tie"]: s["name"] for s in stories["groups"] if s["locked"] is None}
    (out / CURVES).write_text(curves_to_json(analysis(plan["fingerprint"], ties)))
    data = report_data(out)
    assert data.loss_unit == "points"
    assert data.path[0].loss == 0
    mine = next(step for step in data.path if step.this)
    levels = {s["tie"]: len(s["removed"]) // s["cells"] for s in stories["groups"]}
    assert mine.loss == pytest.approx(0.002 * sum(levels.values()))
    write_report(out)
    assert 'id="sensitivity"' in (out / REPORT).read_text()


def test_an_analysis_of_another_model_is_refused(out):
    before = (out / REPORT).read_bytes()
    (out / CURVES).write_text(curves_to_json(analysis("0" * 16, {0: "stem"})))
    with pytest.raises(PlanError, match="another model"):
        write_report(out)
    assert (out / REPORT).read_bytes() == before


def test_a_folder_pruned_twice_tells_the_whole_way(out, tmp_path):
    again = psvit.prune(psvit.load(out), images(), save={"memory": 0.2})
    save(again, tmp_path / "two", extras=extras(tmp_path / "two"))
    data = report_data(tmp_path / "two")
    stem = next(g for g in data.groups if g.name == "up")
    assert stem.before == 24
    assert stem.after == len(again.plan.keep["up.weight"]["0"])
    assert stem.removed is None
    assert any(step.this for step in data.path)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda out: (out / METRICS).unlink(), "is missing"),
        (lambda out: (out / METRICS).write_text("{"), "is damaged"),
        (lambda out: (out / METRICS).write_text("[]"), "is damaged"),
        (lambda out: (out / METRICS).write_text('{"before": 1}'), "not as psvit writes it"),
        (lambda out: (out / METRICS).write_text("{}"), "not as psvit writes it"),
        (lambda out: (out / "plan.json").unlink(), "has no plan.json"),
        (lambda out: (out / "plan.json").write_text("{}"), "not a psvit plan"),
        (lambda out: (out / CURVES).write_text("{}"), "not a sensitivity analysis"),
    ],
)
def test_damage_is_one_clear_line(out, capsys, damage, words):
    before = (out / REPORT).read_bytes()
    damage(out)
    assert main(["report", str(out)]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1
    assert "defect" not in told
    assert (out / REPORT).read_bytes() == before


def test_a_page_that_cannot_be_written_is_one_clear_line(out, capsys):
    (out / REPORT).unlink()
    (out / REPORT).mkdir()
    assert main(["report", str(out)]) == 2
    assert "cannot write" in capsys.readouterr().err
    assert not list(out.glob(".*"))


def test_no_folder(tmp_path, capsys):
    assert main(["report", str(tmp_path / "none")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_command_says_where_the_page_is(out, capsys):
    assert main(["report", str(out), "--json"]) == 0
    told = capsys.readouterr()
    data = json.loads(told.out)
    assert data == {"report": str(out / REPORT), "bytes": (out / REPORT).stat().st_size}
    assert "written to" in told.err


def test_firing_rates_and_methods_come_from_what_was_measured(tmp_path):
    result = pruned()
    measured = {
        "rates_before": {"neurons": {"a.lif": 0.2, "gone": 0.1}},
        "rates_after": {"neurons": {"a.lif": 0.15}},
        "methods": [{"method": "random", "saved": 0.3, "accuracy": 0.5, "low": 0.4, "high": 0.6}],
    }
    save(replace(result, measured=measured), tmp_path / "out")
    data = report_data(tmp_path / "out")
    assert [(r.name, r.before, r.after) for r in data.rates] == [("a.lif", 0.2, 0.15)]
    assert data.trials[0].method == "random"


def test_a_notebook_shows_a_small_table():
    result = replace(pruned(), after=replace(pruned().after, accuracy=0.5, n=100))
    text = result._repr_html_()
    assert text.count("<tr>") == 4  # titles, memory, parameters, MACs
    assert "accuracy" not in text  # measured after only
    both = replace(result, before=replace(result.before, accuracy=0.6, n=100))
    assert "−10.0 points" in both._repr_html_()
    assert "<script" not in text


def test_weights_are_the_same_with_and_without_a_page(out, tmp_path):
    save(pruned(), tmp_path / "plain")
    a, b = ((f / "model.safetensors").read_bytes() for f in (out, tmp_path / "plain"))
    assert a == b
    assert torch.equal(*(psvit.load(f)(images()) for f in (out, tmp_path / "plain")))


def test_facts_say_budgets_as_they_were_asked_for(tmp_path):
    result = pruned()
    asked = {"save": {"memory": 0.224, "params": "30k"}, "max_drop": 0.01, "command": "psvit x"}
    save(replace(result, settings={**result.settings, **asked}), tmp_path / "out")
    facts = dict(report_data(tmp_path / "out").facts)
    assert facts["budget"] == "memory 22.4 %, params 30k"
    assert facts["accuracy lost at most"] == "1 %"
    assert "accuracy at least" not in facts
    assert facts["method"] == "uniform"
    assert len(facts["sha256 of model.safetensors"]) == 64
