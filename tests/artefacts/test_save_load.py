"""A folder gives back the very model that was saved, and refuses to give anything else."""

from __future__ import annotations

import json
import resource
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import psvit
from psvit.artefacts import load_artefact, plan_of
from psvit.errors import OptionError, OutputError, PlanError
from psvit.models.load import load_model
from psvit.records import Source
from tests.artefacts.models import Net, images, pruned, trained


@pytest.fixture
def out(tmp_path: Path) -> Path:
    psvit.save(pruned(), tmp_path / "out")
    return tmp_path / "out"


def same_state(a: nn.Module, b: nn.Module) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return list(left) == list(right) and all(
        torch.equal(left[k], right[k]) and left[k].dtype == right[k].dtype for k in left
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_save_then_load_is_bit_identical(tmp_path, dtype):
    model = trained()
    result = pruned(model=model)
    result = replace(result, model=result.model.to(dtype))
    psvit.save(result, tmp_path / "out")
    loaded = psvit.load(tmp_path / "out")
    assert same_state(loaded, result.model)
    x = images(5).to(dtype)
    with torch.no_grad():
        assert torch.equal(loaded(x), result.model(x))
    assert not loaded.training


class Gated(nn.Module):
    """Products of spikes above a learnt threshold, which starts below what a silent channel has."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(8, 12), nn.Linear(8, 12)
        self.threshold = nn.Parameter(torch.tensor(-0.1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k = ((fc(x) - self.threshold > 0).to(x.dtype) for fc in (self.q, self.k))
        return q @ k.mT


def test_what_the_trained_weights_allow_loads_into_initial_ones(tmp_path):
    torch.manual_seed(0)
    model, x = Gated(), torch.randn(2, 5, 8)
    assert not psvit.find_groups(psvit.capture(model, x)).prunable
    model.threshold.data.fill_(0.2)
    source = Source("tests.artefacts.test_save_load:Gated", {})
    result = psvit.prune(model, x, save={"memory": 0.3}, source=source)
    psvit.save(result, tmp_path / "out")
    loaded = psvit.load(tmp_path / "out")
    assert same_state(loaded, result.model)
    assert loaded.q.weight.shape[0] < 12
    assert torch.equal(loaded(x), result.model(x))


def test_weights_keep_the_names_of_the_original_at_smaller_shapes(out):
    original = trained().state_dict()
    with safe_open(out / "model.safetensors", framework="pt") as file:
        assert set(file.keys()) == set(original)
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    smaller = [name for name, shape in shapes.items() if shape != tuple(original[name].shape)]
    assert "stem.weight" in smaller
    keep = json.loads((out / "plan.json").read_text())["keep"]
    assert sorted(keep) == sorted(smaller)
    for name in smaller:
        for dim, kept in keep[name].items():
            if dim != "in":
                assert shapes[name][int(dim)] == len(kept)


def test_folder_holds_plan_metrics_and_weights_and_no_pickle(out):
    assert sorted(p.name for p in out.iterdir()) == [
        "README.md", "config.json", "metrics.json", "model.safetensors", "plan.json",
    ]  # fmt: skip
    plan = json.loads((out / "plan.json").read_text())
    assert plan["source"] == {"factory": "tests.artefacts.models:Net", "arguments": {"width": 12}}
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["after"]["memory_bytes"] <= 0.7 * metrics["before"]["memory_bytes"]
    assert metrics["settings"]["saliency"] == "l1"
    assert metrics["before"]["accuracy"] is None


def test_artefact_gives_plan_and_metrics_with_the_model(out):
    artefact = load_artefact(out)
    assert artefact.plan == plan_of(artefact.model)
    assert artefact.metrics["after"]["params"] == sum(
        p.numel() for p in artefact.model.parameters()
    )


def test_shared_tensors_are_written_once_each_and_stay_shared(tmp_path):
    class Tied(Net):
        def __init__(self) -> None:
            super().__init__()
            self.also = self.down

        def forward(self, x):
            x = torch.relu(self.bn(self.stem(x)))
            hidden = torch.relu(self.mix(torch.relu(self.up(x))))
            return self.head((x + self.down(hidden) + self.also(hidden)).mean((2, 3)))

    torch.manual_seed(0)
    model = Tied().eval()
    result = psvit.prune(model, images(), save={"memory": 0.3})
    psvit.save(result, tmp_path / "out")
    loaded = psvit.load(tmp_path / "out", model=Tied())
    assert same_state(loaded, result.model)
    assert loaded.get_parameter("also.weight") is loaded.get_parameter("down.weight")


def test_weights_that_are_not_contiguous_are_saved(tmp_path):
    result = pruned()
    result.model.to(memory_format=torch.channels_last)
    psvit.save(result, tmp_path / "out")
    assert same_state(psvit.load(tmp_path / "out"), result.model)


def test_loaded_model_trains_and_its_weights_are_its_own(out):
    model = psvit.load(out).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    nn.functional.cross_entropy(model(images(4)), torch.tensor([0, 1, 2, 3])).backward()
    optimizer.step()
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed >= {name for name, _ in model.named_parameters()}
    assert not same_state(psvit.load(out), model)


def test_model_in_the_place_of_a_factory_is_used_and_left_alone(tmp_path):
    result = pruned(source=None)
    psvit.save(result, tmp_path / "out")
    with pytest.raises(PlanError, match=r"does not say how to build.*psvit\.load\(OUT, model="):
        psvit.load(tmp_path / "out")
    instance = Net().train()
    before = {k: v.clone() for k, v in instance.state_dict().items()}
    loaded = psvit.load(tmp_path / "out", model=instance)
    assert same_state(loaded, result.model)
    assert instance.training
    assert all(torch.equal(v, before[k]) for k, v in instance.state_dict().items())


def test_state_that_is_no_tensor_is_refused_by_name(tmp_path):
    class Extra(nn.Module):
        def get_extra_state(self):
            return {"step": 3}

        def set_extra_state(self, state):
            pass

    result = pruned()
    result.model.add_module("note", Extra())
    with pytest.raises(OutputError, match=r"note\._extra_state \(dict\)"):
        psvit.save(result, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


# Pruning twice


def test_pruning_a_loaded_model_again_writes_one_plan_for_the_original(tmp_path, out):
    first = psvit.load(out)
    second = psvit.prune(first, images(), save={"memory": 0.3})
    psvit.save(second, tmp_path / "second")
    again = psvit.load(tmp_path / "second")
    assert same_state(again, second.model)
    assert again.get_parameter("stem.weight").shape[0] < first.get_parameter("stem.weight").shape[0]
    # What is kept are the weights of the original, at the places that the plan names.
    kept = plan_of(again).keep["stem.weight"]["0"]
    assert torch.equal(again.get_parameter("stem.weight"), trained().stem.weight[list(kept)])
    widths = {w.name: w for w in plan_of(again).widths}
    assert all(w.after <= w.before for w in widths.values())
    assert max(w.before for w in widths.values()) == 24


def test_pruning_a_result_again_without_saving_in_between(tmp_path):
    first = pruned()
    second = psvit.prune(first.model, images(), save={"memory": 0.2})
    psvit.save(second, tmp_path / "out")
    assert same_state(psvit.load(tmp_path / "out"), second.model)


def test_rewriting_twice_equals_rewriting_once_composed():
    model = trained(dtype=torch.float64)
    x = images(dtype=torch.float64)
    first = psvit.prune(model, x, save={"memory": 0.3})
    second = psvit.prune(first.model, x, save={"memory": 0.3})
    once = psvit.rewrite(psvit.capture(model, x), second.plan)
    assert same_state(once, second.model)
    fresh = images(5, torch.float64).flip(0)
    with torch.no_grad():
        torch.testing.assert_close(once(fresh), second.model(fresh), rtol=0, atol=1e-13)


def test_remembered_plans_do_not_keep_models_alive():
    import gc
    import weakref

    result = pruned()
    alive = weakref.ref(result.model)
    assert plan_of(result.model) == result.plan
    del result
    gc.collect()
    assert alive() is None


# Folders that are not what they seem


def edit(path: Path, change) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: p["keep"]["stem.weight"]["0"].pop(), "edited"),
        (lambda p: p["keep"]["stem.weight"]["0"].__setitem__(0, 11), "edited"),
        (lambda p: p["source"]["arguments"].__setitem__("width", 16), "edited"),
        (lambda p: p.__setitem__("fingerprint", "0"), "edited"),
        (lambda p: p.__setitem__("psvit_plan", 2), "version 2.*install the psvit that wrote it"),
        (lambda p: p.pop("keep"), "not a psvit plan"),
        (lambda p: p["keep"]["stem.weight"].__setitem__("0", [-1]), "not a psvit plan"),
        (lambda p: p["inputs"][0].__setitem__("shape", "3,3"), "not a psvit plan"),
    ],
)
def test_edited_and_newer_plans(out, change, words):
    edit(out / "plan.json", change)
    with pytest.raises(PlanError, match=words):
        psvit.load(out)


def test_plan_that_was_only_reformatted_still_loads(out):
    before = psvit.load(out).state_dict()
    edit(out / "plan.json", lambda plan: None)
    after = psvit.load(out).state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_plan_of_another_folder(tmp_path, out):
    psvit.save(pruned(0.5), tmp_path / "other")
    (out / "plan.json").write_bytes((tmp_path / "other" / "plan.json").read_bytes())
    with pytest.raises(
        PlanError, match=r"is not the plan that model\.safetensors was written with"
    ):
        psvit.load(out)


def test_instance_of_another_model(out):
    with pytest.raises(PlanError, match="belongs to another model"):
        psvit.load(out, model=Net(16))


def test_weights_of_another_plan_without_a_digest(tmp_path, out):
    wider = {k: v.clone() for k, v in trained().state_dict().items()}
    save_file(wider, out / "model.safetensors")
    with pytest.raises(PlanError, match=r"do not belong together: stem\.weight is \[12, 1, 3, 3\]"):
        psvit.load(out)


def test_tuned_weights_without_a_digest_are_accepted(out):
    tuned = {k: v + 1 for k, v in psvit.load(out).state_dict().items()}
    save_file(tuned, out / "model.safetensors")
    loaded = psvit.load(out).state_dict()
    assert all(torch.equal(loaded[k], tuned[k]) for k in tuned)


def test_truncated_weights(out):
    data = (out / "model.safetensors").read_bytes()
    (out / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(OutputError, match="damaged or truncated"):
        psvit.load(out)


def test_folders_that_psvit_did_not_write(tmp_path):
    with pytest.raises(OutputError, match="does not exist"):
        psvit.load(tmp_path / "gone")
    with pytest.raises(OutputError, match=r"it has no plan\.json"):
        psvit.load(tmp_path)
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(OutputError, match=r"it has no model\.safetensors"):
        psvit.load(tmp_path)


def test_damaged_metrics(out):
    (out / "metrics.json").write_text("{")
    with pytest.raises(OutputError, match=r"metrics\.json is damaged"):
        load_artefact(out)
    (out / "metrics.json").unlink()
    assert load_artefact(out).metrics == {}


def test_folder_as_a_model_takes_no_arguments(out):
    assert load_model(str(out)).plan is not None
    with pytest.raises(OptionError, match="drop --model-arg"):
        load_model(str(out), {"width": 3})


def test_source_that_is_gone(tmp_path):
    psvit.save(pruned(source=Source("psvit_no_such:net")), tmp_path / "out")
    with pytest.raises(psvit.ModelError, match="no module is called 'psvit_no_such'"):
        psvit.load(tmp_path / "out")


# Nothing half-written


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_interrupted_save_leaves_nothing(tmp_path, monkeypatch, stop):
    result = pruned()
    write = Path.write_text

    def stop_at_metrics(self, *args, **kwargs):
        if self.name == "metrics.json":
            raise stop
        return write(self, *args, **kwargs)

    monkeypatch.setattr(Path, "write_text", stop_at_metrics)
    with pytest.raises(stop):
        psvit.save(result, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_an_output_error_and_keeps_the_earlier_result(tmp_path, out):
    before = (out / "model.safetensors").read_bytes()
    result = pruned(0.5)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"cannot write .*out: .*File too large"):
            psvit.save(result, out, force=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (out / "model.safetensors").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_save_does_not_replace_without_force(out):
    with pytest.raises(OutputError, match="exists: give another folder, or --force"):
        psvit.save(pruned(0.5), out)
    psvit.save(pruned(0.5), out, force=True)
    assert json.loads((out / "metrics.json").read_text())["settings"]["save"] == {"memory": 0.5}
