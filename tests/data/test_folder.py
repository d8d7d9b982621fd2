"""Image folders: what is where, and what is wrong, in one line."""

from __future__ import annotations

import os
import shutil

import pytest
import torch

from psvit.data import Recipe, open_data
from psvit.errors import DataError
from tests.data.written import digits, png, write_folder

GREY = Recipe(size=8, mean=(0.0,), std=(1.0,))


def _open(path, split="train", **options):
    return open_data(f"folder:{path}", split=split, recipe=GREY, **options)


def test_images_and_labels_are_read_in_the_order_of_names(tmp_path):
    write_folder(tmp_path)
    pixels, labels = digits(40)
    order = sorted(range(40), key=lambda i: (labels[i], i))
    (images, found), *rest = _open(tmp_path, batch_size=40)
    assert not rest
    assert found.tolist() == labels[order].tolist()
    assert torch.equal(images[:, 0], torch.from_numpy(pixels[order]).float() / 255)


def test_classes_are_the_sorted_names_of_sub_folders(tmp_path):
    info = _open(write_folder(tmp_path)).info
    assert info.class_names == tuple(f"class {i}" for i in range(10))
    assert (info.images, info.classes) == (40, 10)


def test_train_and_val_serve_their_splits(tmp_path):
    write_folder(tmp_path / "train", 40)
    write_folder(tmp_path / "val", 30, "eval")
    assert _open(tmp_path).info.images == 40
    loader = _open(tmp_path, "eval", batch_size=30)
    assert loader.info.images == 30
    assert sorted(next(iter(loader))[1].tolist()) == sorted(digits(30, "eval")[1].tolist())


def test_labels_of_val_are_those_of_train_even_where_a_class_is_absent(tmp_path):
    write_folder(tmp_path / "train", 40)
    write_folder(tmp_path / "val", 30, "eval")
    shutil.rmtree(tmp_path / "val" / "class 0")
    loader = _open(tmp_path, "eval", batch_size=30)
    assert set(next(iter(loader))[1].tolist()) == set(range(1, 10))


def test_other_files_and_hidden_folders_are_no_images(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "class 0" / "notes.txt").write_text("not an image")
    (tmp_path / "class 0" / ".hidden.png").write_text("not an image")
    (tmp_path / ".cache").mkdir()
    info = _open(tmp_path).info
    assert (info.images, info.classes) == (40, 10)


def test_images_deeper_in_a_class_count(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "class 3" / "more").mkdir()
    (tmp_path / "class 3" / "more" / "one.PNG").write_bytes(png(digits(1)[0][0]))
    assert _open(tmp_path).info.images == 41


def test_a_folder_without_val_does_not_evaluate_on_what_it_trains_on(tmp_path):
    write_folder(tmp_path)
    with pytest.raises(DataError, match=r"no split to evaluate on.*--eval-data"):
        _open(tmp_path, "eval")
    assert _open(tmp_path, "eval", only=True).info.images == 40


@pytest.mark.parametrize(("have", "split"), [("train", "eval"), ("val", "train")])
def test_the_other_split_alone(tmp_path, have, split):
    write_folder(tmp_path / have)
    with pytest.raises(DataError, match=f"has {have}/ but no"):
        _open(tmp_path, split)


def test_two_evaluation_folders_are_not_chosen_between(tmp_path):
    write_folder(tmp_path / "val")
    write_folder(tmp_path / "test")
    with pytest.raises(DataError, match=r"both val/ and test/.*--eval-data"):
        _open(tmp_path, "eval")


def test_a_class_that_train_has_not(tmp_path):
    write_folder(tmp_path / "train")
    write_folder(tmp_path / "val", 30, "eval")
    (tmp_path / "val" / "class 1").rename(tmp_path / "val" / "class one")
    with pytest.raises(DataError, match="'class one'"):
        _open(tmp_path, "eval")


def test_missing_empty_and_flat_folders(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        _open(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is not a folder"):
        _open(tmp_path / "file")
    (tmp_path / "flat").mkdir()
    with pytest.raises(DataError, match="no sub-folders"):
        _open(tmp_path / "flat")
    (tmp_path / "empty" / "class 0").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no image"):
        _open(tmp_path / "empty")


def test_classes_without_images_are_told_of(tmp_path):
    write_folder(tmp_path / "train", 40)
    write_folder(tmp_path / "val", 30, "eval")
    shutil.rmtree(tmp_path / "val" / "class 0")
    (tmp_path / "val" / "class 1" / "x").mkdir()
    for path in (tmp_path / "val" / "class 1").glob("*.png"):
        path.unlink()
    info = _open(tmp_path, "eval").info
    assert info.notes == (f"{tmp_path}/val has no images of 2 of 10 classes: class 0, class 1",)
    assert _open(tmp_path).info.notes == ()


def test_a_missing_synset_folder_says_how_to_keep_the_labels(tmp_path):
    for number in range(999):
        (tmp_path / f"n{number:08d}").mkdir()
    (tmp_path / "n00000000" / "a.png").write_bytes(png(digits(1)[0][0]))
    with pytest.raises(DataError, match=r"999 classes, the model has 1000: 1 of ImageNet's 1,000"):
        _open(tmp_path, classes=1000)
    (tmp_path / "n00000999").mkdir()
    assert _open(tmp_path, classes=1000).info.classes == 1000


def test_validation_images_as_imagenet_packs_them(tmp_path):
    (tmp_path / "train" / "n00000000").mkdir(parents=True)
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG").write_bytes(b"")
    with pytest.raises(DataError, match="sort them into synset folders"):
        _open(tmp_path, "eval")


def test_names_that_are_no_utf8_are_read(tmp_path):
    write_folder(tmp_path)
    odd = os.fsencode(tmp_path / "class 3") + b"/\xff\xe9.png"
    with open(odd, "wb") as file:
        file.write(png(digits(1)[0][0]))
    loader = _open(tmp_path)
    assert sum(len(labels) for _, labels in loader) == 41
