"""`psvit bench`: what it says, and what it leaves in the folder."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def out(run, net, tmp_path):
    folder = tmp_path / "out"
    ended = run("prune", net, "--input-shape", "1,8,8", "--save", "memory=40%", "-o", folder)
    assert ended.code == 0, ended.err
    return folder


def test_it_times_three_models_and_keeps_what_it_found(run, out):
    ended = run(
        "bench", out, "--runtimes", "eager,faster", "--batch-size", "1,3", "--seconds", "0.01",
        "--json",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert found == json.loads((out / "bench.json").read_text())
    rows = found["rows"]
    assert {(r["model"], r["runtime"], r["batch"]) for r in rows} == {
        (model, runtime, batch)
        for model in ("dense", "pruned", "masked")
        for runtime in ("eager", "faster")
        for batch in (1, 3)
    }
    assert all(row["median_ms"] > 0 for row in rows)
    assert found["macs"]["dense"] == found["macs"]["masked"] > found["macs"]["pruned"]
    assert "share: of the ratio of MACs" in ended.err
    page = (out / "report.html").read_text()
    assert '<section id="speed">' in page
    assert "in tensors as large as before" in page
    assert run("report", out).code == 0
    assert run("evaluate", out, "--data", "digits", "--limit", 5).code == 0


def test_the_page_has_no_speed_where_none_was_measured(out):
    assert '<section id="speed">' not in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--runtimes", "tensorrt"], "no runtime is called 'tensorrt'"),
        (["--runtimes", "cuda-graph"], "timed on cuda only"),
        (["--batch-size", "1,0"], "--batch-size '0'"),
        (["--dtype", "int4"], "no dtype 'int4'"),
        (["--device", "cuda:99"], "--device 'cuda:99' cannot be used"),
        (["--seconds", "0"], "--seconds is 0"),
        (["--threads", "0"], "--threads is 0"),
    ],
)
def test_bad_input(run, out, options, message):
    ended = run("bench", out, "--seconds", "0.01", *options)
    assert ended.code == 2
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert not (out / "bench.json").exists()


def test_a_folder_of_another_kind_is_no_OUT(run, tmp_path):
    ended = run("bench", tmp_path)
    assert ended.code == 2
    assert "is not a folder that psvit wrote" in ended.err
