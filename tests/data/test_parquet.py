"""Parquet files: columns and splits are found in what the files say, or asked for."""

from __future__ import annotations

import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from psvit.data import Recipe, open_data
from psvit.data import parquet as module
from psvit.data.parquet import Parquet
from psvit.errors import DataError
from tests.data.written import digits, png, write_digits, write_parquet

GREY = Recipe(size=8, mean=(0.0,), std=(1.0,))


def _open(pattern, split="train", **options):
    return open_data(f"parquet:{pattern}", split=split, recipe=GREY, **options)


def _images(n=3):
    return [png(image) for image in digits(n)[0]]


def test_images_and_labels_come_back_in_order_over_row_groups_and_files(tmp_path):
    pixels, labels = digits(40)
    files = [png(image) for image in pixels]
    write_parquet(tmp_path / "a.parquet", files[:25], labels[:25].tolist())
    write_parquet(tmp_path / "b.parquet", files[25:], labels[25:].tolist())
    batches = list(_open(tmp_path / "*.parquet", batch_size=7))
    assert torch.cat([y for _, y in batches]).tolist() == labels.tolist()
    expected = torch.from_numpy(pixels).float() / 255
    assert torch.equal(torch.cat([x for x, _ in batches])[:, 0], expected)


def test_classes_come_from_the_metadata_else_are_not_known(tmp_path):
    named = _open(write_digits(tmp_path / "named.parquet")).info
    assert (named.classes, named.class_names) == (10, tuple("0123456789"))
    bare = _open(write_digits(tmp_path / "bare.parquet", names=None)).info
    assert (bare.classes, bare.class_names, bare.largest_label) == (None, None, 9)


def test_columns_of_any_name_are_found(tmp_path):
    path = write_digits(tmp_path / "x.parquet", columns=("img", "digit"))
    assert len(next(iter(_open(path)))[1]) == 40


def test_plain_bytes_are_images_too(tmp_path):
    table = pa.table({"png": pa.array(_images(), pa.binary()), "digit": [4, 5, 6]})
    pq.write_table(table, tmp_path / "x.parquet")
    assert next(iter(_open(tmp_path / "x.parquet")))[1].tolist() == [4, 5, 6]


def test_several_candidates_ask_for_a_flag(tmp_path):
    options = {"names": None, "extra": {"coarse": list(range(100, 140))}}
    path = write_digits(tmp_path / "x.parquet", **options)
    with pytest.raises(DataError, match=r"several: label, coarse; say which with --label-column"):
        _open(path)
    chosen = _open(path, label_column="coarse", batch_size=40)
    assert next(iter(chosen))[1].tolist() == list(range(100, 140))


def test_declared_columns_win_over_others(tmp_path):
    path = write_digits(tmp_path / "x.parquet", extra={"id": list(range(40))})
    assert next(iter(_open(path, batch_size=40)))[1].tolist() == digits(40)[1].tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_column": "picture"}, "no column 'picture': it has image, label"),
        ({"image_column": "label"}, "expected bytes of images"),
        ({"label_column": "image"}, "expected whole numbers"),
    ],
)
def test_wrong_columns(tmp_path, options, message):
    with pytest.raises(DataError, match=message):
        _open(write_digits(tmp_path / "x.parquet"), **options)


def test_no_candidate(tmp_path):
    pq.write_table(pa.table({"a": ["text"]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"one image column, got none; say which .*columns: a"):
        _open(tmp_path / "x.parquet")


@pytest.mark.parametrize(
    ("train", "held_out"),
    [
        ("train-00000-of-00001.parquet", "test-00000-of-00001.parquet"),
        ("digits_train.parquet", "digits_validation.parquet"),
        ("train/0000.parquet", "test/0000.parquet"),
    ],
)
def test_names_of_files_or_folders_tell_the_splits(tmp_path, train, held_out):
    write_digits(tmp_path / train, 40)
    write_digits(tmp_path / held_out, 30, "eval")
    assert _open(tmp_path / "**" / "*.parquet").info.images == 40
    assert _open(tmp_path / "**" / "*.parquet", "eval").info.images == 30


def test_a_single_split_does_not_serve_the_other(tmp_path):
    train = write_digits(tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"train\.parquet.* no evaluation files.*--eval-data"):
        _open(train, "eval")
    held_out = write_digits(tmp_path / "test.parquet")
    with pytest.raises(DataError, match=r"test\.parquet.* no training files.*--data"):
        _open(held_out, "train")
    plain = write_digits(tmp_path / "digits.parquet")
    with pytest.raises(DataError, match="no evaluation files"):
        _open(plain, "eval")
    assert _open(plain, "train").info.images == 40
    assert _open(plain, "eval", only=True).info.images == 40


def test_validation_and_test_are_not_chosen_between(tmp_path):
    write_digits(tmp_path / "validation.parquet")
    write_digits(tmp_path / "test.parquet")
    with pytest.raises(DataError, match=r"test and validation: give a narrower pattern"):
        _open(tmp_path / "*.parquet", "eval")


def test_a_file_of_no_split_among_others(tmp_path):
    write_digits(tmp_path / "train.parquet")
    write_digits(tmp_path / "more.parquet")
    with pytest.raises(DataError, match=r"more\.parquet does not say which split"):
        _open(tmp_path / "*.parquet")


def test_files_of_different_data_sets(tmp_path):
    write_digits(tmp_path / "a.parquet")
    write_digits(tmp_path / "b.parquet", names=tuple("abcdefghij"))
    with pytest.raises(DataError, match=r"other columns or classes"):
        _open(tmp_path / "*.parquet")


def test_missing_folder_truncated_and_empty_files(tmp_path):
    with pytest.raises(DataError, match="matches no file"):
        _open(tmp_path / "*.parquet")
    with pytest.raises(DataError, match=r"is a folder: give its files"):
        _open(tmp_path)
    whole = write_digits(tmp_path / "x.parquet")
    whole.write_bytes(whole.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"x\.parquet cannot be read as Parquet"):
        _open(whole)
    with pytest.raises(DataError, match="holds no image"):
        _open(write_parquet(tmp_path / "empty.parquet", [], []))


@pytest.mark.parametrize("bad", [10, -1])
def test_a_label_that_is_no_class(tmp_path, bad):
    path = write_parquet(tmp_path / "x.parquet", _images(), [1, bad, 2])
    with pytest.raises(DataError, match=rf"row 1 has label {bad}, expected 0 to 9 \(1 of 3"):
        _open(path)


def test_a_row_without_a_label(tmp_path):
    path = write_parquet(tmp_path / "x.parquet", _images(), [1, None, 2])
    with pytest.raises(DataError, match="row 1 has no label"):
        _open(path)


def test_bad_images_are_named_by_the_row_of_their_file(tmp_path):
    first = write_digits(tmp_path / "a.parquet", 20)
    images = [png(image) for image in digits(20)[0]]
    images[17] = b"garbage"
    second = write_parquet(tmp_path / "b.parquet", images, [0] * 20)
    with pytest.raises(DataError, match=rf"{second}, row 17 cannot be decoded"):
        list(_open(tmp_path / "*.parquet"))
    assert len(next(iter(_open(first)))[1]) == 20


def test_a_row_without_bytes(tmp_path):
    path = write_parquet(tmp_path / "x.parquet", [*_images(2), None], [1, 2, 3])
    with pytest.raises(DataError, match="row 2 cannot be read: its row holds no image bytes"):
        list(_open(path))


def test_damage_inside_the_file_is_fatal_even_when_bad_images_are_skipped(tmp_path):
    path = write_digits(tmp_path / "x.parquet")
    data = bytearray(path.read_bytes())
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + 40] = bytes(40)
    path.write_bytes(data)
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        list(_open(path, skip_bad=True))


def test_memory_is_bounded_by_the_cache(tmp_path, monkeypatch):
    path = write_digits(tmp_path / "x.parquet")
    source = Parquet(str(path), "train", only=False)
    sizes = [block.bytes for block in source.blocks]
    assert len(sizes) == 3
    monkeypatch.setattr(module, "CACHE_BYTES", sizes[0] + sizes[1])
    for index in range(40):
        source.read(index)
        assert sum(sizes[i] for i in source._cache) <= module.CACHE_BYTES
    assert list(source._cache) == [1, 2]


def test_the_cache_does_not_travel_to_worker_processes(tmp_path):
    source = Parquet(str(write_digits(tmp_path / "x.parquet")), "train", only=False)
    raw = source.read(20)
    copy = pickle.loads(pickle.dumps(source))
    assert not copy._cache
    assert copy.read(20) == raw
