"""Training data come whole, in an order that seed and epoch decide, from any batch on."""

from __future__ import annotations

import pytest
import torch

from psvit.data import RECIPES, open_data
from psvit.errors import DataError
from psvit.train import InMemory, read_into_memory
from tests.train.small import small_data


def _labels(data: InMemory, seed: int, epoch: int, start: int = 0) -> list[list[int]]:
    return [labels.tolist() for _, labels in data.epoch(seed, epoch, start)]


def _numbered(n: int, batch: int) -> InMemory:
    images = torch.arange(n, dtype=torch.uint8)[:, None, None, None]
    return InMemory(images, torch.arange(n), mean=[0.0], std=[1.0], batch=batch)


def test_an_epoch_holds_every_image_once_but_for_an_incomplete_batch() -> None:
    data = _numbered(43, 8)
    assert (data.steps, data.images) == (5, 40)
    seen = [i for batch in _labels(data, 0, 0) for i in batch]
    assert len(seen) == len(set(seen)) == 40


def test_fewer_images_than_a_batch_are_one_batch() -> None:
    data = _numbered(3, 8)
    assert (data.steps, data.images) == (1, 3)
    assert [sorted(batch) for batch in _labels(data, 0, 0)] == [[0, 1, 2]]


def test_the_order_follows_from_seed_and_epoch() -> None:
    data = _numbered(43, 8)
    assert _labels(data, 0, 1) == _labels(data, 0, 1)
    assert _labels(data, 0, 1) != _labels(data, 0, 2)
    assert _labels(data, 0, 1) != _labels(data, 1, 1)


def test_starting_late_gives_the_same_batches() -> None:
    data = _numbered(43, 8)
    assert _labels(data, 0, 4, start=3) == _labels(data, 0, 4)[3:]


def test_images_stay_with_their_labels_and_are_normalised() -> None:
    images = torch.tensor([[[[0]]], [[[255]]], [[[51]]]], dtype=torch.uint8)
    data = InMemory(images, torch.tensor([0, 1, 2]), mean=[0.5], std=[0.25], batch=3)
    ((x, y),) = data.epoch(0, 0)
    expected = {0: -2.0, 1: 2.0, 2: -1.2}
    for value, label in zip(x.flatten().tolist(), y.tolist(), strict=True):
        assert value == pytest.approx(expected[label], abs=1e-6)
    assert data.fill.tolist() == [-2.0]


def test_images_held_out_are_not_trained_on() -> None:
    kept, held = _numbered(43, 8).split_off(0.2, seed=0)
    parts = [[int(i) for _, y in part.plain() for i in y] for part in (kept, held)]
    assert len(parts[1]) == 9
    assert sorted(parts[0] + parts[1]) == list(range(43))


def test_a_loader_is_read_back_to_the_bit() -> None:
    recipe = RECIPES["digits"]
    loader = open_data("digits", split="train", limit=40, batch_size=16)
    data = read_into_memory(loader, mean=recipe.mean, std=recipe.std, batch=8)
    expected = torch.cat([x for x, _ in loader])
    found = torch.cat([x for x, _ in data.plain(batch=7)])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert data.fill.tolist() == pytest.approx([-recipe.mean[0] / recipe.std[0]])


def test_no_images_are_an_error() -> None:
    with pytest.raises(DataError, match="no images"):
        read_into_memory([], mean=[0.0], std=[1.0], batch=8)
    with pytest.raises(DataError, match="3 images and 2 labels"):
        InMemory(torch.zeros(3, 1, 2, 2), torch.zeros(2), mean=[0.0], std=[1.0], batch=2)


def test_the_small_data_are_what_the_other_tests_count_on() -> None:
    assert small_data().steps == 5
