"""Data sets of the Hub through `datasets`, from a stand-in on this machine."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from psvit.data import Recipe, open_data
from psvit.data.hub import _splits, choose_split
from psvit.errors import DataError, MissingExtra
from tests.artefacts.hub_server import TOKEN, Hub, Repository, running_hub
from tests.data.written import digits, png, write_digits, write_parquet

datasets = pytest.importorskip("datasets", reason="install psvit[datasets]")

GREY = Recipe(size=8, mean=(0.0,), std=(1.0,))
NAME = "someone/digits"


@pytest.fixture(scope="module")
def server() -> Iterator[Hub]:
    with running_hub() as hub:
        yield hub


@pytest.fixture
def hub(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Two shards of train, one of test, and an empty cache."""
    monkeypatch.setattr("datasets.config.HF_ENDPOINT", server.address)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.address)
    template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    # Else each mixed pass ends with five seconds of sleep, against a fault in Arrow at exit.
    parquet = importlib.import_module("datasets.packaged_modules.parquet.parquet")
    monkeypatch.setattr(parquet.Parquet, "SLEEP_ON_THREADS_SHUTDOWNS", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    server.repositories.clear()
    files = {"README.md": b"---\nlicense: mit\n---\n"}
    pixels, labels = digits(60)
    for i in range(2):
        path = tmp_path / "shard.parquet"
        half = slice(30 * i, 30 * i + 30)
        write_parquet(path, [png(image) for image in pixels[half]], labels[half].tolist())
        files[f"data/train-{i:05d}-of-00002.parquet"] = path.read_bytes()
    write_digits(tmp_path / "shard.parquet", 40, "eval")
    files["data/test-00000-of-00001.parquet"] = (tmp_path / "shard.parquet").read_bytes()
    server.repositories[f"datasets/{NAME}"] = Repository()
    server.repositories[f"datasets/{NAME}"].commit(files)
    _splits.cache_clear()
    yield server
    _splits.cache_clear()


def _open(spec: str, split: str = "train", **options):
    return open_data(spec, split=split, recipe=GREY, **options)


def _all(loader) -> tuple[np.ndarray, list[int]]:
    batches = list(loader)
    images = torch.cat([x for x, _ in batches])
    return (images[:, 0] * 255).round().to(torch.uint8).numpy(), torch.cat(
        [y for _, y in batches]
    ).tolist()


@pytest.mark.parametrize("kind", ["hub", "hub-cached"])
def test_both_splits_are_read_with_their_classes(hub: Hub, kind: str) -> None:
    loader = _open(f"{kind}:{NAME}")
    images, labels = _all(loader)
    pixels, expected = digits(60)
    assert np.array_equal(images, pixels)
    assert labels == expected.tolist()
    assert loader.info.class_names == tuple("0123456789")
    assert loader.info.version == hub.repositories[f"datasets/{NAME}"].head()
    assert loader.info.origin == "split train"
    test = _open(f"{kind}:{NAME}", "eval")
    assert test.info.origin == "split test"
    assert _all(test)[1] == digits(40, "eval")[1].tolist()


def test_workers_change_nothing(hub: Hub) -> None:
    alone = _open(f"hub:{NAME}", shuffle=True, batch_size=7)
    helped = _open(f"hub:{NAME}", shuffle=True, batch_size=7, workers=3)
    for (x, y), (x2, y2) in zip(alone, helped, strict=True):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)


def test_a_shuffled_stream_has_each_image_once_and_another_order_each_epoch(hub: Hub) -> None:
    loader = _open(f"hub:{NAME}", shuffle=True, seed=1)
    (first, labels), (second, _) = _all(loader), _all(loader)
    pixels, expected = digits(60)
    label_of = {pixels[i].tobytes(): int(expected[i]) for i in range(60)}
    assert [label_of[image.tobytes()] for image in first] == labels
    assert sorted(i.tobytes() for i in first) == sorted(i.tobytes() for i in pixels)
    assert not np.array_equal(first, second)
    again = _open(f"hub:{NAME}", shuffle=True, seed=1)
    again.set_epoch(1)
    assert np.array_equal(_all(again)[0], second)


def test_a_draw_is_seeded_and_recorded(hub: Hub) -> None:
    one, same, other = (_open(f"hub:{NAME}", limit=20, seed=seed) for seed in (1, 1, 2))
    assert one.info.images == 20
    assert one.info.digest == same.info.digest
    assert one.info.digest != other.info.digest
    assert np.array_equal(_all(one)[0], _all(same)[0])
    assert set(_all(one)[1]) <= set(range(10))


def test_held_out_images_are_no_training_images(hub: Hub) -> None:
    stream = _open(f"hub:{NAME}")
    with pytest.raises(DataError, match="does not say how many images it has"):
        stream.split_off(12, 0)
    stream.count = lambda: 60
    train, held = stream.split_off(12, 0)
    in_train = {i.tobytes() for epoch in range(3) for i in _all(train)[0]}
    in_held = {i.tobytes() for i in _all(held)[0]}
    assert in_held
    assert not in_train & in_held


def test_once_downloaded_no_network_is_needed(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _open(f"hub-cached:{NAME}").info.images == 60
    _splits.cache_clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    asked = len(hub.requests)
    assert _open(f"hub-cached:{NAME}").info.images == 60
    assert len(hub.requests) == asked
    with pytest.raises(DataError, match="HF_HUB_OFFLINE"):
        _open(f"hub:{NAME}")
    with pytest.raises(DataError, match="not in the cache of this machine"):
        _open("hub-cached:someone/other")


def test_a_gated_data_set_says_how_to_get_in(hub: Hub) -> None:
    hub.repositories[f"datasets/{NAME}"].gated = True
    with pytest.raises(DataError, match=r"is gated: ask for access.*hf auth login") as error:
        list(_open(f"hub:{NAME}"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("hub:someone/nothing", "not on the Hub, or private"),
        (f"hub:{NAME}@big", "'big' not found"),
        (f"hub:{NAME}#val", "has no split 'val': it has train, test"),
        ("hub:a@b@c", "expected hub:NAME, NAME@CONFIG or NAME#SPLIT"),
    ],
)
def test_what_the_hub_has_not(hub: Hub, spec: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        _open(spec)


def test_a_label_that_is_no_class_is_named(hub: Hub, tmp_path: Path) -> None:
    path = write_digits(tmp_path / "secret.parquet", 10)
    pixels, _ = digits(10)
    write_parquet(path, [png(image) for image in pixels], [-1] * 10)
    repository = hub.repositories[f"datasets/{NAME}"]
    repository.commit({"data/test-00000-of-00001.parquet": path.read_bytes()})
    with pytest.raises(DataError, match="label -1, expected 0 to 9"):
        list(_open(f"hub:{NAME}", "eval"))


@pytest.mark.parametrize(
    ("names", "split", "only", "named", "chosen"),
    [
        (["train", "test", "validation"], "train", False, None, "train"),
        (["train", "test", "validation"], "eval", False, None, "validation"),
        (["train", "test"], "eval", False, None, "test"),
        (["all"], "train", True, None, "all"),
        (["train", "extra"], "train", False, "extra", "extra"),
    ],
)
def test_the_split_that_is_meant(names, split, only, named, chosen) -> None:
    assert choose_split(names, split, only=only, named=named, where="hub:x") == chosen


def test_a_split_that_is_missing_lists_those_there_are() -> None:
    with pytest.raises(DataError, match="no split to evaluate on: it has train"):
        choose_split(["train"], "eval", only=False, named=None, where="hub:x")
    with pytest.raises(DataError, match="names one split: give another to evaluate on"):
        choose_split(["train"], "eval", only=False, named="train", where="hub:x#train")


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"pip install 'psvit\[datasets\]'"):
        _open("hub:someone/never-asked-for")
