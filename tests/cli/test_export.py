"""`psvit export`, and `psvit evaluate` of what it wrote."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def exported(run, net, tmp_path):
    path = tmp_path / "net.pt2"
    ended = run("export", net, "--format", "pt2", "--data", "digits", "--n", 380, "-o", path)
    assert ended.code == 0, ended.err
    return path, ended


def test_test_images_come_first_and_training_images_have_no_labels(exported):
    path, ended = exported
    assert "same top-1  380 of 380 images" in ended.err
    assert "on the 359 test images of them" in ended.err
    told = json.loads((path.parent / "net.pt2.json").read_text())
    assert told["comparison"]["labelled"] == 359
    assert told["settings"]["data"] == "digits"


def test_an_exported_file_is_evaluated_as_it_was_exported(run, exported):
    path, _ = exported
    ended = run("evaluate", path, "--limit", 40, "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert found["n"] == 40
    assert found["data"] == "digits"
    assert found["file_bytes"] == path.stat().st_size
    assert 0 <= found["accuracy_low"] <= found["accuracy"] <= found["accuracy_high"] <= 1


def test_an_exported_file_takes_no_weights(run, exported):
    path, _ = exported
    ended = run("evaluate", path, "--checkpoint", "x.pt")
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert "drop --checkpoint" in ended.err


def test_a_file_that_exists_is_replaced_by_force_alone(run, net, exported):
    path, _ = exported
    before = path.read_bytes()
    ended = run("export", net, "--format", "pt2", "--input-shape", "1,8,8", "-o", path)
    assert ended.code == 2
    assert "exists" in ended.err
    assert path.read_bytes() == before
    ended = run(
        "export", net, "--format", "pt2", "--input-shape", "1,8,8", "--n", 4, "-o", path, "--force"
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert "compared on random images" in ended.err


def test_nir_tells_what_is_in_and_what_is_left_out(run, tmp_path):
    pytest.importorskip("nirtorch", reason="NIRTorch is not installed: psvit[nir]")
    path = tmp_path / "digits.nir"
    ended = run("export", "spikformer-digits", "--format", "nir", "--n", 20, "-o", path)
    assert ended.code == 0, ended.err
    assert "part        head: 1 layer to 10; all values " in ended.err
    assert "left out    matmul after blocks.0.attn.qkv_lif and 3 more: NIR has no" in ended.err
    ended = run("evaluate", path)
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert "holds parts of a model" in ended.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "tflite"], "no format is called 'tflite'"),
        (["--n", 0], "--n is 0"),
        (["--format", "pt2"], "whose files end in .pt2"),
        ([], "give --input-shape"),
    ],
)
def test_bad_input(run, net, tmp_path, options, message):
    ended = run("export", net, *options, "-o", tmp_path / "out.onnx")
    assert ended.code == 2
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert not list(tmp_path.glob("*out*"))
