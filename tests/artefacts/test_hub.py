"""A saved folder is a model repository; it can be pushed to the Hub and loaded from there."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import psvit
from psvit.artefacts.folder import OWN_FILES
from psvit.errors import MissingExtra, ModelError, OutputError
from psvit.models import build
from psvit.models.load import load_model
from psvit.records import Result, Source
from tests.artefacts.hub_server import TOKEN, Hub, running_hub
from tests.artefacts.models import Net, pruned

huggingface_hub = pytest.importorskip("huggingface_hub", reason="install psvit[hub]")

NAME = "someone/small-net"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        yield hub


def measured() -> Result:
    result = pruned()
    figures = {"accuracy": 0.9, "accuracy_low": 0.87, "accuracy_high": 0.93, "n": 360}
    settings = {
        **result.settings,
        "model": "/home/me/net.py:Net",
        "data": "folder:/home/me/cats",
        "recipe": {"size": 8, "mean": [0.5], "std": [0.5]},
    }
    after = replace(result.after, **figures)
    return replace(result, before=replace(result.before, **figures), after=after, settings=settings)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    psvit.save(measured(), tmp_path / "out")
    return tmp_path / "out"


def test_a_folder_has_a_card_with_its_figures_and_a_config(out: Path) -> None:
    card = huggingface_hub.ModelCard.load(out / "README.md")
    assert card.data.library_name == "psvit"
    assert card.data.pipeline_tag == "image-classification"
    (entry,) = card.data.eval_results
    assert (entry.metric_type, entry.metric_value) == ("accuracy", 0.9)
    assert entry.dataset_name == "folder:cats"
    assert "/home/me" not in card.content
    assert "# net.py:Net, pruned" in card.text
    assert "| accuracy (top-1, 360 images) | 90.0 % (" in card.text
    figures = json.loads((out / "metrics.json").read_text())
    config = json.loads((out / "config.json").read_text())
    assert config["params"] == figures["after"]["params"]
    assert config["original"] == "tests.artefacts.models:Net"
    assert config["preprocessing"]["size"] == 8


def test_a_card_without_accuracy_claims_none(tmp_path: Path) -> None:
    psvit.save(pruned(), tmp_path / "out")
    card = huggingface_hub.ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.eval_results is None
    assert "accuracy" not in card.text
    assert "| memory (parameters and buffers) |" in card.text
    assert "- budget: `memory 0.3`" in card.text


def test_the_code_on_the_card_of_a_named_model_runs(tmp_path: Path, hub: Hub) -> None:
    model = build("spikformer-digits")
    x = torch.rand(2, 1, 16, 16)
    source = Source("spikformer-digits", {})
    psvit.save(psvit.prune(model, x, save={"memory": 0.3}, source=source), tmp_path / "out")
    psvit.push_to_hub(tmp_path / "out", NAME)
    card = hub.repositories[NAME].tree("main")["README.md"].decode()
    code = card.split("```python\n")[1].split("```")[0]
    assert f'psvit.load("hub:{NAME}")' in code
    scope = {"images": x}
    exec(code, scope)
    with torch.no_grad():
        assert torch.equal(scope["logits"], psvit.load(tmp_path / "out")(x))
    loaded = load_model(f"hub:{NAME}")  # what every command does with MODEL
    assert loaded.plan is not None
    assert loaded.source == source
    assert loaded.metrics is not None
    assert loaded.metrics["settings"]["save"] == {"memory": 0.3}


def test_what_a_stranger_names_is_not_called(tmp_path: Path, hub: Hub) -> None:
    victim = tmp_path / "pwned"
    (tmp_path / "net.py").write_text(f"open({str(victim)!r}, 'w').close()\ndef make(): pass")
    psvit.save(pruned(source=Source(f"{tmp_path}/net.py:make", {})), tmp_path / "out")
    psvit.push_to_hub(tmp_path / "out", NAME)
    for call in (psvit.load, load_model):
        with pytest.raises(psvit.PlanError, match=r"none of psvit's models.*give an instance"):
            call(f"hub:{NAME}")
    assert not victim.exists()
    assert not psvit.load(f"hub:{NAME}", model=Net()).training
    with pytest.raises(psvit.PsvitError):
        psvit.load(tmp_path / "out")
    assert victim.exists()  # the payload is a real one: a folder of one's own is trusted


def test_pushed_and_loaded_is_the_same_model(out: Path, hub: Hub) -> None:
    (out / "secret.txt").write_text("not psvit's")
    assert psvit.push_to_hub(out, NAME, private=True, message="first") == f"{hub.address}/{NAME}"
    repository = hub.repositories[NAME]
    assert repository.private
    assert repository.messages == ["first"]
    sent = repository.tree("main")
    assert set(sent) == {
        "README.md", "config.json", "metrics.json", "model.safetensors", "plan.json"
    }  # fmt: skip
    assert set(sent) <= OWN_FILES
    assert NAME in sent["README.md"].decode()
    assert "USER/NAME" not in sent["README.md"].decode()
    here = psvit.load(out).state_dict()
    there = psvit.load(f"hub:{NAME}", model=Net()).state_dict()
    assert list(here) == list(there)
    assert all(torch.equal(here[k], there[k]) for k in here)


def test_a_revision_can_be_named_and_foreign_files_are_not_fetched(
    tmp_path: Path, out: Path, hub: Hub
) -> None:
    psvit.push_to_hub(out, NAME)
    first = hub.repositories[NAME].head()
    psvit.save(pruned(0.5), tmp_path / "smaller")
    psvit.push_to_hub(tmp_path / "smaller", f"hub:{NAME}")
    hub.repositories[NAME].commit({"net.py": b"raise SystemExit", "pytorch_model.bin": b"?"})
    size = {
        revision: sum(
            p.numel() for p in psvit.load(f"hub:{NAME}{revision}", model=Net()).parameters()
        )
        for revision in ("", f"@{first}")
    }
    assert size[""] < size[f"@{first}"]
    fetched = {line.rsplit("/", 1)[1] for line in hub.requests if "/resolve/" in line}
    assert "model.safetensors" in fetched
    assert fetched <= OWN_FILES


def test_a_factory_that_others_lack_is_replaced_by_an_instance(tmp_path: Path, hub: Hub) -> None:
    psvit.save(pruned(source=None), tmp_path / "out")
    psvit.push_to_hub(tmp_path / "out", NAME)
    assert "model=original" in hub.repositories[NAME].tree("main")["README.md"].decode()
    with pytest.raises(psvit.PlanError, match="give an instance"):
        psvit.load(f"hub:{NAME}")
    assert not psvit.load(f"hub:{NAME}", model=Net()).training


def test_what_cannot_be_had_is_one_line(
    out: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(spec: str) -> str:
        with pytest.raises(ModelError) as caught:
            load_model(spec)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "there is no such repository" in refused("hub:someone/nothing")
    assert "expected user/name" in refused("hub:a/b/c")
    psvit.push_to_hub(out, NAME)
    assert "no such revision" in refused(f"hub:{NAME}@nowhere")
    hub.repositories["someone/else"] = other = hub.repositories[NAME].__class__()
    other.commit({"config.json": b"{}"})
    with pytest.raises(OutputError, match=r"not a folder that psvit wrote: it has no plan\.json"):
        load_model("hub:someone/else")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(OutputError, match=r"access denied.*hf auth login"):
        psvit.push_to_hub(out, NAME)
    with pytest.raises(OutputError, match="not a folder that psvit wrote"):
        psvit.push_to_hub(out.parent, NAME)


def test_without_huggingface_hub_the_extra_is_named(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match=r"psvit\[hub\]"):
        psvit.load("hub:someone/net")
    with pytest.raises(MissingExtra, match=r"psvit\[hub\]"):
        psvit.push_to_hub(out, NAME)
