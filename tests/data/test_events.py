"""Frames of events, simulated from real digits, through the data layer."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from psvit.data import Recipe, open_data
from psvit.errors import DataError
from psvit.train.augment import augment, cutmix
from psvit.train.config import Augment
from tests.data.simulated import events_of, frames_of, write_events
from tests.data.written import digits


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """events:PATH with train/ and test/, 60 and 30 recordings of 4 frames."""
    root = tmp_path_factory.mktemp("events")
    write_events(root / "train", 60)
    write_events(root / "test", 30, "eval")
    return root


def _open(path, split="train", **options):
    return open_data(f"events:{path}", split=split, **options)


def test_simulated_events_are_balanced_and_all_of_them_are_in_the_frames():
    events = events_of(digits(1)[0][0])
    frames = frames_of(events, 4)
    assert frames.sum() == len(events) > 500
    assert frames[:, 1].sum() == pytest.approx(frames[:, 0].sum(), rel=0.2)
    counts = frames.sum((1, 2, 3))
    assert counts.max() - counts.min() < 4  # split by number


def test_frames_are_those_that_spikingjelly_would_write(monkeypatch):
    package = pytest.importorskip("spikingjelly", reason="install psvit[spikingjelly]")
    # Its file of integration also draws pictures: what for is not needed here, nor installed.
    for name in ("matplotlib", "matplotlib.pyplot", "torchvision", "torchvision.transforms"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["matplotlib"].pyplot = sys.modules["torchvision"].transforms = None
    path = Path(package.__file__).parent / "datasets" / "utils.py"
    spec = importlib.util.spec_from_file_location("spikingjelly.datasets.utils", path)
    utils = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(utils)
    events = events_of(digits(1)[0][0])
    t, x, y, p = events.T
    fields = {"t": t, "x": x, "y": y, "p": p}
    theirs = utils.integrate_events_by_fixed_frames_number(fields, "number", 4, 24, 24)
    assert np.array_equal(theirs, frames_of(events, 4))


def test_recordings_come_batch_first_with_counts_as_they_are(place):
    loader = _open(place, batch_size=7)
    info = loader.info
    assert (info.images, info.classes, info.shape, info.recipe) == (60, 10, (4, 2, 24, 24), None)
    frames, labels = next(iter(loader))
    assert frames.shape == (7, 4, 2, 24, 24)
    assert frames.dtype == torch.float32
    pixels, known = digits(60)
    order = sorted(range(60), key=lambda i: (known[i], i))
    assert labels.tolist() == known[order][:7].tolist()
    assert np.array_equal(frames[0].numpy(), frames_of(events_of(pixels[order[0]]), 4))
    assert _open(place, "eval").info.images == 30


def test_without_splits_the_last_tenth_of_each_class_is_for_evaluation(tmp_path):
    write_events(tmp_path, 200)
    train, test = _open(tmp_path), _open(tmp_path, "eval")
    assert train.info.images + test.info.images == 200
    assert "the first 90 % of each class" in train.info.origin
    names = [[loader._source.where(i) for i in range(loader.info.images)]
             for loader in (train, test)]  # fmt: skip
    assert not set(names[0]) & set(names[1])
    for label in range(10):
        mine = [sorted(n for n in part if f"/{label}/" in n) for part in names]
        total = len(mine[0]) + len(mine[1])
        assert len(mine[0]) == -(-9 * total // 10)
        assert max(mine[0]) < min(mine[1])
    assert _open(tmp_path, only=True).info.images == 200


def test_the_folder_that_spikingjelly_was_given_holds_the_frames(tmp_path):
    write_events(tmp_path / "frames_number_4_split_by_number" / "train", 20)
    assert _open(tmp_path).info.images == 20
    (tmp_path / "frames_number_8_split_by_time").mkdir()
    with pytest.raises(DataError, match=r"holds frames_number_4.*frames_number_8.*name the one"):
        _open(tmp_path)


def test_a_size_scales_frames_as_images(place):
    plain, scaled = _open(place), open_data(f"events:{place}@12", split="train")
    assert scaled.info.shape == (4, 2, 12, 12)
    frames, small = next(iter(plain))[0], next(iter(scaled))[0]
    assert torch.allclose(small, F.avg_pool2d(frames.flatten(0, 1), 2).view_as(small))


def test_what_is_no_frames_is_named(tmp_path):
    write_events(tmp_path, 20)
    path = sorted((tmp_path / "0").iterdir())[0]
    good = path.read_bytes()
    for content, message in (
        (b"no zip", "is damaged"),
        (good[: len(good) // 2], "is damaged"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=message) as error:
            _open(tmp_path)
        assert str(error.value).startswith(str(path))
        assert "\n" not in str(error.value)
    np.savez(path, x=np.zeros(3), t=np.zeros(3))
    with pytest.raises(DataError, match="it has x, t and no 'frames'"):
        _open(tmp_path)
    np.savez(path, frames=np.array([object()], dtype=object))
    with pytest.raises(DataError, match="no npz of plain numbers"):
        _open(tmp_path)
    np.savez(path, frames=np.zeros((2, 24, 24)))
    with pytest.raises(DataError, match=r"float64 \[2, 24, 24\], expected numbers \[T, 2, H, W\]"):
        _open(tmp_path)


def test_recordings_of_another_length_are_named(tmp_path):
    write_events(tmp_path, 20)
    path = sorted((tmp_path / "5").iterdir())[0]
    np.savez(path, frames=np.zeros((5, 2, 24, 24)))
    with pytest.raises(DataError, match=r"npz: it is 5 x 2 x 24 x 24, others are 4 x 2.*T, P, H"):
        list(_open(tmp_path, only=True, skip_bad=True))


def test_a_recipe_means_nothing_to_counts(place):
    with pytest.raises(DataError, match="counts of events, taken as they are"):
        _open(place, recipe=Recipe(size=8, mean=(0.0,), std=(1.0,)))


def test_frames_of_a_recording_are_shifted_together():
    frames = torch.zeros(6, 3, 2, 16, 16)
    frames[..., 8, 8] = torch.arange(1.0, 37).reshape(6, 3, 2)
    moved = augment(frames, Augment(crop=3), np.random.default_rng(0), torch.zeros(3))
    assert moved.shape == frames.shape
    assert torch.equal(moved.sum((-1, -2)), frames.sum((-1, -2)))
    where = moved.flatten(3).argmax(-1)
    assert (where == where[:, :1, :1]).all()
    assert where.unique().numel() > 1
    mixed, partner, share = cutmix(frames + 1, 1.0, np.random.default_rng(0))
    assert mixed.shape == frames.shape
    assert 0 <= share <= 1
    assert partner.shape == (6,)
