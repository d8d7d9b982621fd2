"""`psvit finetune`: a folder in, a better one of the same plan out, and what is refused."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import psvit
from psvit.models.load import load_model

pytest.importorskip("sklearn", reason="digits come with scikit-learn")


@pytest.fixture
def out(run, net, tmp_path):
    """OUT: a user's model, pruned with the weights of a file."""
    torch.manual_seed(3)
    save_file(load_model(net).model.state_dict(), tmp_path / "weights.safetensors")
    place = tmp_path / "OUT"
    ended = run(
        "prune", net, "--data", "digits", "--limit", "60", "--save", "memory=40%",
        "--checkpoint", tmp_path / "weights.safetensors", "-o", place,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    return place


def tune(run, out, *more):
    return run("finetune", out, "--epochs", "0.1", "--limit", "60", *more)


def test_a_folder_is_tuned_measured_and_used_as_any_other(run, out, tmp_path):
    ended = tune(run, out, "--features", "stem", "--label-weight", "0.3", "--json")
    assert ended.code == 0, ended.err
    tuned = tmp_path / "OUT-finetuned"
    told = json.loads(ended.out)
    assert told["out"] == str(tuned)
    assert (tuned / "plan.json").read_bytes() == (out / "plan.json").read_bytes()
    old, new = (json.loads((f / "metrics.json").read_text()) for f in (out, tuned))
    assert new["before"]["accuracy"] == old["before"]["accuracy"]
    assert new["finetune"]["start"] == old["after"]
    assert new["finetune"]["tuning"]["epochs"] == 0.1
    assert new["finetune"]["steps"] == 2
    assert new["dense_recovered"]["n"] == new["after"]["n"] == 60
    assert new["settings"]["recover"] == "finetune"
    assert [w["after"] for w in new["groups"] if "after" in w] == []
    lines = (tuned / "finetune.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 2]
    assert "Fine-tuning" in (tuned / "report.html").read_text()
    run_folder = tmp_path / "OUT-finetuned.run"
    assert {"best.safetensors", "last.safetensors", "log.jsonl", "checkpoint.pt"} <= {
        p.name for p in run_folder.iterdir()
    }

    state = psvit.load(tuned).state_dict()
    before = psvit.load(out).state_dict()
    assert {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in before.items()}
    trained = load_file(run_folder / "last.safetensors")
    assert any(not torch.equal(v, before[k]) for k, v in trained.items())
    assert run("evaluate", tuned, "--limit", "60").code == 0
    again = run(
        "prune", tuned, "--data", "digits", "--limit", "60", "--save", "memory=10%", "-o",
        tmp_path / "again",
    )  # fmt: skip
    assert again.code == 0, again.err

    # A folder pruned twice still knows the weights of its teacher.
    ended = tune(run, tmp_path / "again", "-o", tmp_path / "again2")
    assert ended.code == 0, ended.err

    refused = tune(run, tmp_path / "again", "-o", tmp_path / "new", "--resume", run_folder)
    assert refused.code == 2
    assert "holds a checkpoint of another plan" in refused.err
    refused = tune(run, out, "--lr", "0.1", "-o", tmp_path / "new", "--resume", run_folder)
    assert refused.code == 2
    assert "holds a run with other settings" in refused.err
    assert "'lr': 0.1" in refused.err
    assert not (tmp_path / "new").exists()


def test_what_is_refused(run, out, net, tmp_path):
    def refused(*more, folder=out):
        ended = tune(run, folder, *more)
        assert ended.code == 2, ended.err
        assert ended.err.count("psvit: error:") == 1
        assert not (tmp_path / "OUT-finetuned").exists()
        return ended.err.splitlines()[-1]

    assert "is not a folder" in refused(folder=tmp_path / "none")
    (tmp_path / "other").mkdir()
    assert "is not a folder that psvit wrote" in refused(folder=tmp_path / "other")
    assert "epochs is 0.0, expected more than 0" in refused("--epochs", "0")
    assert "epochs is -3.0" in refused("--epochs", "-3")
    assert "cannot be used" in refused("--device", "cuda:7")
    assert "no fine-tuning was begun there" in refused("--resume", tmp_path / "other")
    assert "--model-arg goes with --teacher" in refused("--model-arg", "width=3")
    assert "the teacher knows 7 classes, the pruned model 10" in refused(
        "--teacher", net, "--model-arg", "classes=7"
    )
    assert "the loss is nan" in refused("--lr", "1e30", "--clip", "0", "--epochs", "1")
    (tmp_path / "weights.safetensors").unlink()
    assert "which are gone: give them with --checkpoint FILE" in refused()

    metrics = json.loads((out / "metrics.json").read_text())
    metrics["settings"]["checkpoint"] = None
    (out / "metrics.json").write_text(json.dumps(metrics))
    assert "which has other weights each time it is built" in refused()
