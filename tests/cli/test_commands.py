"""Each subcommand on a user's model and real digits: what it writes, prints and returns."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

import psvit
from psvit.artefacts import plan_of, read_weights
from psvit.models.load import load_model


@pytest.fixture
def pruned(run, net, tmp_path):
    ended = run("prune", net, "--data", "digits", "--save", "memory=30%", "-o", tmp_path / "out")
    assert ended.code == 0, ended.err
    return tmp_path / "out", ended


def test_prune_writes_a_folder_that_meets_the_budget(pruned):
    out, ended = pruned
    metrics = json.loads((out / "metrics.json").read_text())
    before, after = metrics["before"], metrics["after"]
    assert after["memory_bytes"] <= 0.7 * before["memory_bytes"]
    assert after["memory_bytes"] >= 0.6 * before["memory_bytes"]
    assert after["n"] == before["n"] > 300
    assert after["accuracy_low"] <= after["accuracy"] <= after["accuracy_high"]
    assert after["latency_ms"] > 0
    small = psvit.load(out)
    assert sum(p.numel() for p in small.parameters()) == after["params"]
    assert str(out) in ended.err
    assert ended.out == ""


def test_text_goes_to_stderr_and_json_alone_to_stdout(run, net, tmp_path):
    ended = run(
        "prune", net, "--data", "digits", "--save", "memory=0.3", "-o", tmp_path / "out", "--json"
    )
    data = json.loads(ended.out)
    assert data["out"] == str(tmp_path / "out")
    assert {w["name"] for w in data["groups"]} >= {"stem", "mix"}
    assert data["after"] == json.loads((tmp_path / "out" / "metrics.json").read_text())["after"]
    assert "a model that prints" in ended.err
    assert "written to" in ended.err


@pytest.mark.parametrize(("recover", "measured"), [("obs", 2), ("bn", 3)])
def test_a_control_that_recovery_left_alone_is_not_measured_again(
    run, net, tmp_path, monkeypatch, recover, measured
):
    titles = []

    def with_accuracy(figures, model, data, title, device):
        titles.append(title)
        return replace(figures, accuracy=0.1 * len(titles), n=len(titles))

    monkeypatch.setattr("psvit.cli.run.with_accuracy", with_accuracy)
    ended = run(
        "prune", net, "--data", "digits", "--limit", "60", "--save", "memory=30%",
        "--recover", recover, "-o", tmp_path / "out",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert len(titles) == measured
    assert metrics["dense_recovered"]["n"] == (1 if recover == "obs" else 3)


def test_saved_settings_say_how_it_was_done(pruned):
    out, _ = pruned
    settings = json.loads((out / "metrics.json").read_text())["settings"]
    assert settings["data"] == "digits"
    assert settings["save"] == {"memory": 0.3}
    assert (settings["saliency"], settings["method"], settings["seed"]) == ("l1", "uniform", 0)


def test_the_same_seed_gives_the_same_bytes(run, net, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert not run(
            "prune", net, "--data", "digits", "--save", "params=20%", "--saliency", "random",
            "--seed", seed, "-o", tmp_path / name,
        ).code  # fmt: skip
    a, b, c = ((tmp_path / n / "model.safetensors").read_bytes() for n in "abc")
    assert a == b
    assert a != c


def test_several_budgets_are_all_met(run, net, tmp_path):
    run(
        "prune", net, "--input-shape", "1,8,8", "--save", "memory=10%", "--save", "macs=40%",
        "-o", tmp_path / "out",
    )  # fmt: skip
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["after"]["macs"] <= 0.6 * metrics["before"]["macs"]
    assert metrics["after"]["memory_bytes"] <= 0.9 * metrics["before"]["memory_bytes"]
    assert metrics["after"]["accuracy"] is None


def test_align_keeps_widths_at_multiples(run, net, tmp_path):
    ended = run(
        "prune", net, "--input-shape", "1,8,8", "--save", "memory=30%", "--align", 8,
        "-o", tmp_path / "out", "--json",
    )  # fmt: skip
    widths = {w["name"]: w["after"] for w in json.loads(ended.out)["groups"]}
    assert widths["stem"] % 8 == widths["mix"] % 8 == 0


def test_model_arguments_and_checkpoint_reach_the_result(run, net, tmp_path):
    torch.manual_seed(5)
    weights = load_model(net, {"width": 8}).model.state_dict()
    save_file(weights, tmp_path / "w.safetensors")
    ended = run(
        "prune", net, "--model-arg", "width=8", "--checkpoint", tmp_path / "w.safetensors",
        "--data", "digits", "--save", "memory=30%", "-o", tmp_path / "out",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    small = load_file(tmp_path / "out" / "model.safetensors")
    kept = plan_of(psvit.load(tmp_path / "out")).keep["stem.weight"]["0"]
    assert torch.equal(small["stem.weight"], weights["stem.weight"][list(kept)])


def test_partial_checkpoint_is_listed(run, net, tmp_path):
    weights = load_model(net).model.state_dict()
    del weights["head.bias"]
    torch.save(weights, tmp_path / "w.pth")
    common = ("prune", net, "--checkpoint", tmp_path / "w.pth", "--data", "digits",
              "--save", "memory=30%", "-o", tmp_path / "out")  # fmt: skip
    assert run(*common).code == 2
    ended = run(*common, "--allow-partial")
    assert ended.code == 0
    assert "psvit: note: not loaded from" in ended.err
    assert "head.bias [10] is missing" in ended.err


def test_pruned_folder_can_be_evaluated_with_what_it_remembers(run, pruned):
    out, _ = pruned
    ended = run("evaluate", out, "--json")
    assert ended.code == 0, ended.err
    data = json.loads(ended.out)
    after = json.loads((out / "metrics.json").read_text())["after"]
    for key in ("accuracy", "n", "memory_bytes", "params", "macs"):
        assert data[key] == after[key]
    assert "evaluated on digits, as when it was pruned" in ended.err


def test_evaluate_on_part_of_the_data(run, net):
    ended = run("evaluate", net, "--data", "digits", "--limit", 50, "--json")
    assert json.loads(ended.out)["n"] == 50


def test_pruning_what_psvit_wrote_again(run, pruned, tmp_path):
    out, _ = pruned
    ended = run("prune", out, "--data", "digits", "--save", "memory=30%", "-o", tmp_path / "two")
    assert ended.code == 0, ended.err
    first, second = psvit.load(out), psvit.load(tmp_path / "two")
    kept = [plan_of(model).keep["stem.weight"]["0"] for model in (first, second)]
    assert set(kept[1]) < set(kept[0])
    assert read_weights(tmp_path / "two" / "model.safetensors").keys() == first.state_dict().keys()


def test_force_replaces_a_folder_of_psvits(run, net, pruned):
    out, _ = pruned
    common = ("prune", net, "--data", "digits", "--save", "memory=50%", "-o", out)
    assert run(*common).code == 2
    assert run(*common, "--force").code == 0
    assert json.loads((out / "metrics.json").read_text())["settings"]["save"] == {"memory": 0.5}


def test_inspect_says_what_can_go_and_what_not(run, net):
    ended = run("inspect", net, "--input-shape", "1,8,8", "--json")
    data = json.loads(ended.out)
    groups = {g["name"]: g for g in data["groups"]}
    assert groups["stem"]["channels"] == 16
    # A channel of the stem: 9 weights, 4 figures of BN and a column of mix, all of 4 bytes.
    assert groups["stem"]["step_bytes"] == 4 * (9 + 4 + 32)
    assert groups["stem"]["most_bytes"] == 15 * groups["stem"]["step_bytes"]
    assert "output" in groups["head"]["locked"]
    assert groups["head"]["step_bytes"] == 0


def test_models_lists_every_name(run):
    names = [m["name"] for m in json.loads(run("models", "--json").out)["models"]]
    assert names[0] == "spikformer-digits"
    assert set(names) == set(psvit.models.MODELS)
