"""A folder in the layout of ImageNet through the commands: odd images, top-5, what is recorded."""

from __future__ import annotations

import hashlib
import io
import json
from functools import lru_cache

import numpy as np
import pytest
from PIL import Image

from psvit.data import calibration_subset
from tests.data.written import digits

NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, classes=120):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 5, stride=4)
        self.deep = nn.Conv2d(8, 12, 3, stride=2)
        self.head = nn.Linear(12, classes)

    def forward(self, x):
        return self.head(torch.relu(self.deep(torch.relu(self.stem(x)))).mean((2, 3)))
"""

CLASSES, EACH = 120, 2
FLAGS = ("--size", 32, "--mean", "0.5,0.5,0.5", "--std", "0.2,0.2,0.2")


@lru_cache
def some_digits() -> np.ndarray:
    return digits(20)[0]


def jpeg(number: int, mode: str = "RGB") -> bytes:
    """A digit in two colours, 48 x 40 pixels."""
    pixels = np.kron(some_digits()[number % 20], np.ones((5, 6), np.uint8))
    out = io.BytesIO()
    rgb = np.stack([pixels, 255 - pixels, pixels // 2], axis=-1)
    Image.fromarray(rgb).convert(mode).save(out, "JPEG")
    return out.getvalue()


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    root = tmp_path_factory.mktemp("imagenet")
    for split in ("train", "val"):
        for label in range(CLASSES):
            folder = root / split / f"n{label:08d}"
            folder.mkdir(parents=True)
            for i in range(EACH):
                (folder / f"{split}_{i:08d}.JPEG").write_bytes(jpeg(label + i))
    return root


@pytest.fixture
def net(tmp_path):
    (tmp_path / "net.py").write_text(NET)
    return f"{tmp_path}/net.py:Net"


def test_top1_and_top5_come_with_their_intervals(run, net, imagenet):
    ended = run("evaluate", net, "--data", f"folder:{imagenet}", *FLAGS, "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert found["n"] == CLASSES * EACH
    assert found["top5"] >= found["accuracy"]
    assert found["top5_low"] <= found["top5"] <= found["top5_high"]
    assert "top-5 accuracy" in ended.err


def test_the_calibration_subset_is_of_train_and_can_be_drawn_again(run, net, imagenet, tmp_path):
    out = tmp_path / "out"
    ended = run("prune", net, "--data", f"folder:{imagenet}", *FLAGS, "--save", "memory=30%",
                "--recover", "obs", "--seed", 3, "-o", out)  # fmt: skip
    assert ended.code == 0, ended.err
    metrics = json.loads((out / "metrics.json").read_text())
    drawn = metrics["settings"]["calibration"]
    assert drawn["part"] == f"{imagenet}/train"
    assert (drawn["total"], drawn["seed"]) == (CLASSES * EACH, 3)
    again = calibration_subset(drawn["total"], drawn["images"], drawn["seed"])
    text = ",".join(str(index) for index in again)
    assert drawn["indices_sha256"] == hashlib.sha256(text.encode()).hexdigest()
    assert metrics["after"]["top5"] is not None
    assert "top-5 accuracy" in (out / "report.html").read_text()


def test_without_a_look_at_images_none_are_recorded(run, net, imagenet, tmp_path):
    out = tmp_path / "out"
    ended = run("prune", net, "--data", f"folder:{imagenet}", *FLAGS, "--limit", 20,
                "--save", "memory=30%", "-o", out)  # fmt: skip
    assert ended.code == 0, ended.err
    assert json.loads((out / "metrics.json").read_text())["settings"]["calibration"] is None


def _evaluate(run, net, root, *more):
    return run("evaluate", net, "--data", f"folder:{root}", *FLAGS, *more)


@pytest.fixture
def odd(tmp_path):
    """A small folder with a class for each model class, and images in the first."""
    for label in range(CLASSES):
        (tmp_path / "odd" / f"n{label:08d}").mkdir(parents=True)
    (tmp_path / "odd" / "n00000000" / "a.JPEG").write_bytes(jpeg(0))
    return tmp_path / "odd"


def test_images_of_every_mode_are_read(run, net, odd):
    pixels = np.kron(some_digits()[0], np.ones((6, 6), np.uint8))
    place = odd / "n00000001"
    (place / "cmyk.JPEG").write_bytes(jpeg(1, "CMYK"))
    (place / "grey.JPEG").write_bytes(jpeg(1, "L"))
    Image.fromarray(pixels.astype(np.uint16) * 257).save(place / "deep.png")
    palette = Image.fromarray(np.stack([pixels, pixels, 255 - pixels], -1)).convert("P")
    palette.save(place / "palette.png", transparency=0)
    Image.fromarray(pixels).convert("RGBA").save(place / "alpha.png")
    ended = _evaluate(run, net, odd, "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["n"] == 6
    assert "no images of 118 of 120 classes: n00000002, n00000003, n00000004" in ended.err


def test_a_truncated_jpeg_is_named_or_left_out(run, net, odd):
    bad = odd / "n00000000" / "b.JPEG"
    bad.write_bytes(jpeg(3)[:-200])
    ended = _evaluate(run, net, odd)
    assert ended.code == 2
    line = ended.err.splitlines()[-1]
    assert line.startswith(f"psvit: error: {bad} cannot be decoded: it is damaged (image file is")
    assert "--skip-bad leaves such images out" in line
    ended = _evaluate(run, net, odd, "--skip-bad", "--json")
    assert ended.code == 0
    assert json.loads(ended.out)["n"] == 1
    assert f"1 image was left out, the first: {bad}" in ended.err


def test_classes_that_are_not_the_models(run, net, odd):
    ended = _evaluate(run, net, odd, "--model-arg", "classes=100")
    assert ended.code == 2
    assert "has 120 classes, the model has 100: give the data" in ended.err
