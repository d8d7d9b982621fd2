"""Other people's weights: every usual form is read, and nothing in a file is ever executed."""

from __future__ import annotations

import argparse
import collections
import datetime
import decimal
import functools
import io
import operator
import os
import pathlib
import pickle
import random
import subprocess
import tarfile
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from psvit.artefacts import load_weights, read_weights
from psvit.errors import CheckpointError


def model() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


@pytest.fixture
def trained() -> nn.Module:
    torch.manual_seed(7)
    return model()


def loaded_equals(path: Path, trained: nn.Module, beside: tuple[str, ...] = ()) -> bool:
    fresh = model()
    assert load_weights(fresh, path) == list(beside)
    state = trained.state_dict()
    return all(torch.equal(value, state[name]) for name, value in fresh.state_dict().items())


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model": s, "optimizer": {"state": {}}, "args": argparse.Namespace(lr=0.1)},
        lambda s: {"model_ema": s},
        lambda s: {"ema": {"module": s}},
        lambda s: {f"module.{k}": v for k, v in s.items()},
        lambda s: {f"_orig_mod.{k}": v for k, v in s.items()},
        lambda s: {"model": {f"module._orig_mod.{k}": v for k, v in s.items()}},
        lambda s: {"state_dict": {f"model.{k}": v for k, v in s.items()}},
        lambda s: {
            "model": s,
            "best": np.float64(0.9),
            "history": np.arange(3),
            "path": pathlib.Path("runs/1"),
        },
    ],
    ids=["plain", "state_dict", "model", "ema", "ema-module", "ddp", "compiled", "both",
         "lightning", "numpy"],
)  # fmt: skip
def test_every_usual_form_is_read(tmp_path, trained, wrap, legacy):
    path = tmp_path / "weights.pth"
    torch.save(wrap(trained.state_dict()), path, _use_new_zipfile_serialization=not legacy)
    assert loaded_equals(path, trained)


@pytest.mark.parametrize("name", ["w.safetensors", "w.bin"])
def test_safetensors_is_read_under_any_name(tmp_path, trained, name):
    save_file(trained.state_dict(), tmp_path / name)
    assert loaded_equals(tmp_path / name, trained)


def test_plain_weights_come_before_ema(tmp_path, trained):
    other = {name: value + 1 for name, value in trained.state_dict().items()}
    torch.save({"model_ema": other, "model": trained.state_dict()}, tmp_path / "w.pth")
    assert loaded_equals(tmp_path / "w.pth", trained, ("model_ema, which lies beside model",))


def test_prefix_that_the_model_itself_has_is_kept(tmp_path):
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(2, 2)

    source = Wrapped()
    torch.save(source.state_dict(), tmp_path / "w.pth")
    target = Wrapped()
    assert load_weights(target, tmp_path / "w.pth") == []
    assert torch.equal(target.module.weight, source.module.weight)


def test_missing_bn_counter_is_no_difference(tmp_path, trained):
    state = {k: v for k, v in trained.state_dict().items() if not k.endswith("_tracked")}
    torch.save(state, tmp_path / "w.pth")
    assert load_weights(model(), tmp_path / "w.pth") == []


def a_training_run(weights: dict[str, torch.Tensor]) -> dict[str, object]:
    """What training scripts of the DeiT, MAE and timm kind write, with all that lies around it."""
    net = model()
    optimizer = torch.optim.AdamW(net.parameters())
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    net(torch.ones(2, 3, 1, 1)).sum().backward()
    optimizer.step()
    schedule.step()
    averages: collections.defaultdict[str, list[float]] = collections.defaultdict(list)
    averages["acc1"].append(73.3)
    return {
        "model": weights,
        "model_ema": {name: value + 1 for name, value in weights.items()},
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": schedule.state_dict(),
        "scaler": {"scale": 65536.0, "growth_factor": 2.0, "_growth_tracker": 0},
        "epoch": 299,
        "args": argparse.Namespace(
            lr=6e-4,
            output_dir=pathlib.PosixPath("outputs/T1"),
            data_path=WindowsPath(),
            dtype=torch.float16,
            device=torch.device("cpu"),
            shape=torch.Size([3, 224, 224]),
            betas=(0.9, 0.999),
            started=datetime.datetime(2024, 4, 19, tzinfo=datetime.UTC),
            classes={"a", "b"},
            lr_scale=np.float32(0.5),
            names=np.array(["cat", "dog"]),
            extra=types.SimpleNamespace(z=1 + 2j),
        ),
        "averages": averages,
        "last": collections.deque([0.1, 0.2], maxlen=20),
        "order": collections.OrderedDict(a=1),
        "rng": (random.getstate(), np.random.get_state(), torch.get_rng_state()),
    }


class WindowsPath:
    """Pickles as a path of Windows, which no other system can make."""

    def __reduce__(self):
        return pathlib.WindowsPath, ("C:\\", "imagenet")


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_whole_training_run_is_read_for_its_weights(tmp_path, trained, legacy):
    path = tmp_path / "checkpoint-299.pth"
    run = a_training_run(trained.state_dict())
    torch.save(run, path, _use_new_zipfile_serialization=not legacy)
    assert loaded_equals(path, trained, ("model_ema, which lies beside model",))


@pytest.mark.parametrize(
    ("thing", "named"),
    [
        (decimal.Decimal("0.1"), "decimal.Decimal"),
        (functools.partial(nn.LayerNorm, eps=1e-6), "functools.partial"),
        (nn.ReLU(), r"torch.nn.modules.activation.ReLU"),
        (np.array([None], dtype=object), "ObjectDType"),
    ],
    ids=["unknown", "partial", "module", "objects"],
)
def test_what_is_not_known_to_be_harmless_is_refused_by_name(tmp_path, trained, thing, named):
    torch.save({"model": trained.state_dict(), "extra": thing}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=rf"{named}.*so it was not read; save its state_dict"):
        load_weights(model(), tmp_path / "w.pth")


class Payload:
    """Runs a command when a careless reader unpickles it."""

    def __init__(self, victim: Path, how: str) -> None:
        self.victim, self.how = victim, how

    def __reduce__(self):
        return {
            "system": (os.system, (f"touch {self.victim}",)),
            "exec": (exec, (f"open({str(self.victim)!r}, 'w').close()",)),
            "Popen": (subprocess.check_call, (["touch", str(self.victim)],)),
            "method": (operator.methodcaller("touch"), (self.victim,)),
            "touch": (pathlib.Path.touch, (self.victim,)),
        }[self.how]


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    ("how", "named"),
    [
        ("system", "system"),
        ("exec", "exec"),
        ("Popen", "check_call"),
        ("method", "methodcaller"),
        ("touch", "(getattr|touch)"),
    ],
)
def test_malicious_file_is_named_and_not_executed(tmp_path, trained, how, named, legacy):
    victim, path = tmp_path / "pwned", tmp_path / "w.pth"
    state = trained.state_dict()
    torch.save(
        {"state_dict": state, "extra": Payload(victim, how)},
        path,
        _use_new_zipfile_serialization=not legacy,
    )
    # The payload is a real one: reading the file the careless way does run it.
    torch.load(path, weights_only=False)
    assert victim.exists()
    victim.unlink()

    target = model()
    before = {k: v.clone() for k, v in target.state_dict().items()}
    with pytest.raises(CheckpointError, match=rf"would execute code.*asks for \S*{named}"):
        load_weights(target, path)
    assert not victim.exists()
    assert all(torch.equal(v, before[k]) for k, v in target.state_dict().items())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["w.pth"]


class Nested:
    """A payload inside bytes that torch's own reader of storages would unpickle."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self):
        inside = io.BytesIO()
        torch.save(Payload(self.victim, "system"), inside)
        return torch.storage._load_from_bytes, (inside.getvalue(),)


class Unpickles(Nested):
    """The same, through pickle."""

    def __reduce__(self):
        return pickle.loads, (pickle.dumps(Payload(self.victim, "system")),)


class Told(Nested):
    """A payload in what a harmless class is told to hold."""

    def __reduce__(self):
        return argparse.Namespace, (), {"lr": Payload(self.victim, "system")}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("kind", [Nested, Unpickles, Told])
def test_a_payload_within_a_harmless_thing_does_not_run_either(tmp_path, trained, kind, legacy):
    victim, path = tmp_path / "pwned", tmp_path / "w.pth.tar"
    run = {"state_dict": trained.state_dict(), "args": kind(victim)}
    torch.save(run, path, _use_new_zipfile_serialization=not legacy)
    torch.load(path, weights_only=False)
    assert victim.exists()
    victim.unlink()
    with pytest.raises(CheckpointError, match="would execute code when read"):
        load_weights(model(), path)
    assert not victim.exists()


def test_a_payload_in_torchs_oldest_format_or_put_into_its_newest_does_not_run(tmp_path, trained):
    victim, payload = tmp_path / "pwned", pickle.dumps(Payload(tmp_path / "pwned", "system"), 2)
    with tarfile.open(tmp_path / "old.pth.tar", "w") as archive:
        for name in ("sys_info", "storages", "tensors", "pickle"):
            member = tarfile.TarInfo(name)
            member.size = len(payload)
            archive.addfile(member, io.BytesIO(payload))
    torch.save({"state_dict": trained.state_dict()}, tmp_path / "w.pth")
    with (
        zipfile.ZipFile(tmp_path / "w.pth") as good,
        zipfile.ZipFile(tmp_path / "swapped.pth", "w") as swapped,
        zipfile.ZipFile(tmp_path / "more.pth", "w") as more,
    ):
        for name in good.namelist():
            pickled = name.endswith("data.pkl")
            swapped.writestr(name, payload if pickled else good.read(name))
            more.writestr(name, good.read(name))
        more.writestr("w/constants.pkl", payload)
    for name, words in {
        "old.pth.tar": "is a tar archive",
        "swapped.pth": "would execute code when read",
        "more.pth": "is a TorchScript program",
    }.items():
        with pytest.raises(CheckpointError, match=words):
            load_weights(model(), tmp_path / name)
    assert not victim.exists()


def test_another_pickle_protocol_is_called_by_its_name(tmp_path, trained):
    torch.save(trained.state_dict(), tmp_path / "w.pth", pickle_protocol=4)
    with pytest.raises(CheckpointError, match="pickled by a protocol that cannot be read safely"):
        load_weights(model(), tmp_path / "w.pth")


def test_allow_list_does_not_leak(tmp_path, trained):
    torch.save(trained.state_dict(), tmp_path / "w.pth")
    before = set(torch.serialization.get_safe_globals())  # torch keeps no order
    read_weights(tmp_path / "w.pth")
    assert set(torch.serialization.get_safe_globals()) == before


def test_pickled_module_is_refused_by_name(tmp_path, trained):
    torch.save(trained, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"Sequential.*save its state_dict\(\) alone"):
        load_weights(model(), tmp_path / "w.pth")


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("part", [3, 100, 0.5, 0.98])
def test_truncated_file(tmp_path, trained, name, part):
    path = tmp_path / name
    if name.endswith("pth"):
        torch.save(trained.state_dict(), path)
    else:
        save_file(trained.state_dict(), path)
    data = path.read_bytes()
    path.write_bytes(data[: part if part > 1 else int(part * len(data))])
    with pytest.raises(CheckpointError, match=r"w\.\w+ is damaged.*(download or copy it again)"):
        load_weights(model(), path)


def test_a_payload_among_the_tensors_or_in_place_of_them_does_not_run_either(tmp_path, trained):
    victim, path = tmp_path / "pwned", tmp_path / "w.pth"
    for data in (Payload(victim, "system"), {**trained.state_dict(), "z": Payload(victim, "exec")}):
        torch.save(data, path)
        with pytest.raises(CheckpointError, match="would execute code"):
            load_weights(model(), path)
        path.write_bytes(pickle.dumps(data))  # no torch file at all
        with pytest.raises(CheckpointError):
            load_weights(model(), path)
        path.rename(tmp_path / "w.safetensors")
        with pytest.raises(CheckpointError):
            load_weights(model(), tmp_path / "w.safetensors")
        (tmp_path / "w.safetensors").unlink()
    assert list(tmp_path.iterdir()) == []


def test_tar_archive_and_web_page(tmp_path, trained):
    torch.save(trained.state_dict(), tmp_path / "w.pth")
    with tarfile.open(tmp_path / "w.pth.tar", "w") as archive:
        archive.add(tmp_path / "w.pth", "w.pth")
    with pytest.raises(CheckpointError, match="is a tar archive: unpack it"):
        load_weights(model(), tmp_path / "w.pth.tar")
    (tmp_path / "page.pth").write_text("\n<!DOCTYPE html><html><title>Virus scan warning</title>")
    with pytest.raises(CheckpointError, match=r"is a web page.*download the file itself"):
        load_weights(model(), tmp_path / "page.pth")


def test_missing_empty_folder_and_lfs_pointer(tmp_path):
    (tmp_path / "empty.pth").touch()
    (tmp_path / "lfs.pth").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    for name, words in {
        "gone.pth": "does not exist",
        "empty.pth": "is empty",
        ".": "is a folder",
        "lfs.pth": "Git LFS pointer",
    }.items():
        with pytest.raises(CheckpointError, match=words):
            load_weights(model(), tmp_path / name)


def test_file_without_weights_says_what_it_has(tmp_path):
    torch.save({"epoch": 3, "loss": 0.1}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"holds no weights.*it has epoch, loss"):
        load_weights(model(), tmp_path / "w.pth")
    torch.save([1, 2], tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="holds a list: expected a state dict"):
        load_weights(model(), tmp_path / "w.pth")


def test_another_model_lists_keys_and_shapes_and_loads_nothing(tmp_path):
    torch.save(nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8)).state_dict(), tmp_path / "w")
    target = model()
    before = {k: v.clone() for k, v in target.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_weights(target, tmp_path / "w")
    message = str(caught.value)
    assert "0.weight is [8, 3, 1, 1], expected [4, 3, 1, 1]" in message
    assert "1 of 9 tensors fit" in message
    assert "and 5 more" in message
    assert "\n" not in message
    assert all(torch.equal(v, before[k]) for k, v in target.state_dict().items())


def test_allow_partial_loads_what_fits_and_reports_the_rest(tmp_path, trained):
    state = trained.state_dict()
    state["3.weight"] = torch.zeros(5, 4)
    del state["3.bias"]
    state["head.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "w.pth")
    target = model()
    head = target[3].weight.clone()
    assert load_weights(target, tmp_path / "w.pth", allow_partial=True) == [
        "3.weight is [5, 4], expected [2, 4]",
        "3.bias [2] is missing",
        "head.weight [1] is unknown to the model",
    ]
    assert torch.equal(target[0].weight, trained[0].weight)
    assert torch.equal(target[3].weight, head)


def test_allow_partial_with_nothing_in_common_is_an_error(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="no tensor that fits"):
        load_weights(model(), tmp_path / "w.pth", allow_partial=True)
