"""WebDataset shards: tars that are streamed in order, mixed, and refused in one line."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from psvit.data import Recipe, open_data
from psvit.data.webdataset import expand
from psvit.errors import DataError
from tests.data.written import digits, png

pytest.importorskip("datasets", reason="install psvit[datasets]")

GREY = Recipe(size=8, mean=(0.0,), std=(1.0,))


def write_shards(root: Path, name: str, split: str = "train", *, kind: str = "cls") -> None:
    """Three shards of ten digits, `name`-000.tar to 002, labels in .cls or .json files."""
    pixels, labels = digits(30, split)
    for shard in range(3):
        with tarfile.open(root / f"{name}-{shard:03d}.tar", "w") as tar:
            for i in range(10 * shard, 10 * shard + 10):
                text = json.dumps({"width": 8, "label": int(labels[i]), "name": "x"})
                label = str(labels[i]) if kind == "cls" else text
                for suffix, data in ((".png", png(pixels[i])), (f".{kind}", label.encode())):
                    member = tarfile.TarInfo(f"{i:05d}{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))


def _open(spec: str, split: str = "train", **options):
    return open_data(f"webdataset:{spec}", split=split, recipe=GREY, **options)


def _all(loader) -> tuple[np.ndarray, list[int]]:
    batches = list(loader)
    images = torch.cat([x for x, _ in batches])
    return (images[:, 0] * 255).round().to(torch.uint8).numpy(), torch.cat(
        [y for _, y in batches]
    ).tolist()


@pytest.mark.parametrize("kind", ["cls", "json"])
def test_braces_name_shards_that_are_read_in_order(tmp_path, kind):
    write_shards(tmp_path, "digits", kind=kind)
    images, labels = _all(_open(f"{tmp_path}/digits-{{000..002}}.tar"))
    pixels, expected = digits(30)
    assert np.array_equal(images, pixels)
    assert labels == expected.tolist()


def test_another_number_of_a_json_is_named_with_dots(tmp_path):
    write_shards(tmp_path, "digits", kind="json")
    loader = _open(f"{tmp_path}/digits-*.tar", label_column="json.width")
    assert set(_all(loader)[1]) == {8}
    with pytest.raises(DataError, match=r"no column 'json.no': it has png, json, json.width"):
        _open(f"{tmp_path}/digits-*.tar", label_column="json.no")


def test_a_shuffle_keeps_labels_and_misses_no_image(tmp_path):
    write_shards(tmp_path, "digits")
    images, labels = _all(_open(f"{tmp_path}/digits-*.tar", shuffle=True))
    pixels, expected = digits(30)
    label_of = {pixels[i].tobytes(): int(expected[i]) for i in range(30)}
    assert [label_of[image.tobytes()] for image in images] == labels
    assert labels != expected.tolist()
    assert len(labels) == 30


def test_one_pattern_holds_both_splits_by_their_names(tmp_path):
    write_shards(tmp_path, "digits-train")
    write_shards(tmp_path, "digits-val", "eval")
    both = f"{tmp_path}/digits-{{train,val}}-{{000..002}}.tar"
    assert _all(_open(both))[1] == digits(30)[1].tolist()
    assert _all(_open(both, "eval"))[1] == digits(30, "eval")[1].tolist()
    with pytest.raises(DataError, match="has no evaluation shards by their names"):
        _open(f"{tmp_path}/digits-train-*.tar", "eval")


def test_the_images_of_local_shards_can_be_counted(tmp_path):
    write_shards(tmp_path, "digits")
    loader = _open(f"{tmp_path}/digits-*.tar")
    assert loader.info.images is None
    assert loader.count() == 30
    with pytest.raises(TypeError):
        len(loader)


def test_a_damaged_image_is_named_by_its_shard_and_key(tmp_path):
    write_shards(tmp_path, "digits")
    path = tmp_path / "digits-001.tar"
    data = bytearray(path.read_bytes())
    at = data.index(b"IHDR")
    data[at : at + 40] = b"x" * 40
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"digits-001.tar, 00010 cannot be decoded.*--skip-bad"):
        list(_open(f"{tmp_path}/digits-*.tar"))
    loader = _open(f"{tmp_path}/digits-*.tar", skip_bad=True)
    assert len(_all(loader)[1]) == 29
    assert len(loader.skipped) == 1


def test_shards_that_are_missing_or_no_tars(tmp_path):
    write_shards(tmp_path, "digits")
    with pytest.raises(DataError, match=r"digits-003.tar does not exist \(check the range"):
        _open(f"{tmp_path}/digits-{{000..003}}.tar")
    with pytest.raises(DataError, match="does not exist"):
        _open(f"{tmp_path}/nothing-*.tar")
    with pytest.raises(DataError, match="is empty: expected"):
        _open(f"{tmp_path}/digits-{{002..000}}.tar")
    (tmp_path / "bad.tar").write_bytes(b"no tar" * 1000)
    with pytest.raises(DataError, match=r"bad.tar cannot be read") as error:
        list(_open(f"{tmp_path}/bad.tar"))
    assert "\n" not in str(error.value)


def test_labels_outside_the_classes_of_the_model(tmp_path):
    write_shards(tmp_path, "digits")
    with pytest.raises(DataError, match="label"):
        list(_open(f"{tmp_path}/digits-*.tar", limit=30, classes=5))


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("a-{08..11}.tar", ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]),
        ("{x,yz}/{0..1}", ["x/0", "x/1", "yz/0", "yz/1"]),
    ],
)
def test_braces(pattern, names):
    assert list(expand(pattern)) == names
