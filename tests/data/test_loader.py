"""Order, subsets, workers, and images that are bad."""

from __future__ import annotations

import pytest
import torch

from psvit.data import Recipe, calibration_subset, check_classes, check_shape, open_data
from psvit.data.order import WINDOW_BYTES, Order
from psvit.data.source import Block
from psvit.errors import DataError, OptionError
from tests.data.written import digits, png, write_digits, write_folder, write_parquet

GREY = Recipe(size=8, mean=(0.0,), std=(1.0,))


def _labels(loader):
    return torch.cat([y for _, y in loader]).tolist()


def _shuffled(seed):
    return open_data("digits", split="train", shuffle=True, seed=seed)


def test_shuffling_depends_on_the_seed_alone_and_changes_each_epoch():
    torch.manual_seed(0)
    one = _shuffled(1)
    first, second = _labels(one), _labels(one)
    torch.manual_seed(99)
    again = _shuffled(1)
    assert _labels(again) == first
    assert _labels(again) == second
    assert first != second
    assert sorted(first) == sorted(second)
    assert _labels(_shuffled(2)) not in (first, second)


def test_a_resumed_epoch_is_the_one_it_would_have_been():
    through = _shuffled(1)
    _labels(through)
    resumed = _shuffled(1)
    resumed.set_epoch(1)
    assert _labels(resumed) == _labels(through)


def test_reading_leaves_the_global_random_state_alone():
    before = torch.random.get_rng_state()
    _labels(_shuffled(1))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_shuffled_images_keep_their_labels(tmp_path):
    path = write_digits(tmp_path / "x.parquet")
    pixels, labels = digits(40)
    (images, found), *_ = open_data(
        f"parquet:{path}", split="train", recipe=GREY, shuffle=True, batch_size=40
    )
    label_of = {pixels[i].tobytes(): labels[i] for i in range(40)}
    raw = (images[:, 0] * 255).round().to(torch.uint8).numpy()
    assert [label_of[image.tobytes()] for image in raw] == found.tolist()
    assert found.tolist() != labels.tolist()


def test_a_shuffle_of_large_blocks_reads_each_block_once():
    size = WINDOW_BYTES // 2
    blocks = [Block(i * 10, i * 10 + 10, size) for i in range(6)]
    order = list(Order(range(60), blocks, shuffle=True, seed=0))
    assert sorted(order) == list(range(60))
    windows = [{i // 10 for i in order[k : k + 20]} for k in range(0, 60, 20)]
    assert [len(window) for window in windows] == [2, 2, 2]
    assert [i // 10 for i in order] != sorted(i // 10 for i in order)


def test_workers_change_nothing(tmp_path):
    path = write_digits(tmp_path / "x.parquet")
    spec, options = f"parquet:{path}", {"recipe": GREY, "shuffle": True, "batch_size": 8}
    alone = open_data(spec, split="train", **options)
    helped = open_data(spec, split="train", workers=2, **options)
    for (x, y), (x2, y2) in zip(alone, helped, strict=True):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)


def test_a_calibration_subset_is_random_recorded_and_repeatable():
    loader = open_data("digits", split="train", limit=50, seed=3)
    indices = loader.info.indices
    assert indices == calibration_subset(1438, 50, seed=3)
    assert len(set(indices)) == 50
    assert list(indices) == sorted(indices)
    assert loader.info.images == 50
    every = torch.tensor(_labels(open_data("digits", split="train")))
    assert _labels(loader) == every[list(indices)].tolist()
    assert calibration_subset(1438, 50, seed=4) != indices
    assert calibration_subset(10, 50, seed=4) == tuple(range(10))


def test_a_subset_is_not_the_first_classes_of_a_sorted_folder(tmp_path):
    write_folder(tmp_path, 400)
    loader = open_data(f"folder:{tmp_path}", split="train", recipe=GREY, limit=60)
    assert set(_labels(loader)) == set(range(10))


@pytest.mark.parametrize("workers", [0, 1])
def test_one_bad_image_stops_with_one_line_that_names_it(tmp_path, workers):
    write_folder(tmp_path)
    bad = sorted((tmp_path / "class 5").iterdir())[0]
    bad.write_bytes(bad.read_bytes()[:50])
    loader = open_data(f"folder:{tmp_path}", split="train", recipe=GREY, workers=workers)
    with pytest.raises(DataError, match=r"cannot be decoded: .*--skip-bad") as error:
        list(loader)
    assert str(error.value).startswith(str(bad))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_skip_bad_leaves_out_counts_and_names(tmp_path, workers):
    write_folder(tmp_path)
    bad = sorted((tmp_path / "class 5").iterdir())[0]
    bad.write_bytes(b"")
    loader = open_data(
        f"folder:{tmp_path}", split="train", recipe=GREY, skip_bad=True, workers=workers
    )
    assert len(_labels(loader)) == 39
    assert len(_labels(loader)) == 39
    assert loader.skipped == (f"{bad} cannot be decoded: it is empty",)


def test_a_file_that_vanishes_is_bad_too(tmp_path):
    write_folder(tmp_path)
    loader = open_data(f"folder:{tmp_path}", split="train", recipe=GREY)
    sorted((tmp_path / "class 5").iterdir())[0].unlink()
    with pytest.raises(DataError, match="cannot be read"):
        list(loader)


def test_a_batch_of_bad_images_alone_is_no_empty_batch(tmp_path):
    images = [b"", b"", png(digits(1)[0][0])]
    path = write_parquet(tmp_path / "x.parquet", images, [1, 2, 3])
    options = {"recipe": GREY, "skip_bad": True, "batch_size": 2}
    assert [y.tolist() for _, y in open_data(f"parquet:{path}", split="train", **options)] == [[3]]


def test_bad_images_only(tmp_path):
    path = write_parquet(tmp_path / "x.parquet", [b"", b"x"], [1, 2])
    loader = open_data(f"parquet:{path}", split="train", recipe=GREY, skip_bad=True)
    with pytest.raises(DataError, match=r"none of 2 images can be decoded; the first: .*row 0"):
        list(loader)


def test_colour_in_a_grey_recipe_names_the_image_even_with_skip_bad(tmp_path):
    write_folder(tmp_path)
    colour = sorted((tmp_path / "class 5").iterdir())[0]
    colour.write_bytes(png(digits(1)[0][0], "RGB"))
    loader = open_data(f"folder:{tmp_path}", split="train", recipe=GREY, skip_bad=True)
    with pytest.raises(DataError, match="png: it is in colour") as error:
        list(loader)
    assert str(error.value).startswith(str(colour))


def test_the_classes_of_data_and_model_must_agree(tmp_path):
    info = open_data("digits", split="train").info
    check_classes(info, 10)
    for classes in (9, 100):
        with pytest.raises(DataError, match=f"10 classes, the model has {classes}"):
            check_classes(info, classes)
    with pytest.raises(DataError, match="the model has 100"):
        open_data("digits", split="train", classes=100)


def test_without_class_names_the_largest_label_must_fit(tmp_path):
    path = write_digits(tmp_path / "x.parquet", names=None)
    info = open_data(f"parquet:{path}", split="train", recipe=GREY).info
    check_classes(info, 100)
    with pytest.raises(DataError, match=r"labels up to 9, .*expected labels of 0 to 8"):
        check_classes(info, 9)


def test_shapes_of_data_and_model_must_agree():
    info = open_data("digits", split="train").info
    check_shape(info, (1, 16, 16))
    with pytest.raises(DataError, match=r"1 channel\(s\), the model takes 3"):
        check_shape(info, (3, 16, 16))
    with pytest.raises(DataError, match="1 x 16 x 16, the model takes 1 x 32 x 32"):
        check_shape(info, (1, 32, 32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "--batch-size is 0"),
        ({"workers": -1}, "--workers is -1"),
        ({"limit": 0}, "limited to 0"),
        ({"image_column": "x"}, "are for parquet:, hub:"),
    ],
)
def test_options_that_mean_nothing(options, message):
    with pytest.raises(OptionError, match=message):
        open_data("digits", split="train", **options)


@pytest.mark.parametrize("spec", ["digit", "folder:", "parquet:", "", "hub:", ":x"])
def test_an_unknown_form_lists_the_known(spec):
    with pytest.raises(DataError, match="expected digits, folder:PATH, parquet:GLOB"):
        open_data(spec, split="train", recipe=GREY)
