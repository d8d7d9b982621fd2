"""Augmentation changes images as it says, and the same way for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from psvit.errors import DataError
from psvit.train.augment import (
    augment,
    blend_labels,
    cutmix,
    mix,
    mixup,
    random_crop,
    random_erase,
    shrink,
)
from psvit.train.config import Augment
from psvit.train.randaugment import check_randaugment, rand_augment

FILL = torch.tensor([-7.0, -8.0])


def _images(n: int = 32) -> torch.Tensor:
    """``[n, 2, 6, 5]`` of values that occur once an image."""
    return torch.arange(n * 60.0).view(n, 2, 6, 5)


def test_shrinking_keeps_the_aspect_and_the_mean_and_never_enlarges() -> None:
    images = torch.rand(3, 2, 8, 4, dtype=torch.float64)
    small = shrink(images, 4)
    assert small.shape == (3, 2, 4, 2)
    flat = torch.full((1, 1, 9, 9), 0.7, dtype=torch.float64)
    torch.testing.assert_close(shrink(flat, 5), torch.full((1, 1, 5, 5), 0.7, dtype=torch.float64))
    assert not torch.equal(small, images[..., ::2, ::2])  # averaged, not every other pixel
    assert shrink(images, 8) is images
    assert shrink(images, 20) is images


def test_a_crop_shifts_the_image_and_fills_the_rest() -> None:
    images = _images()
    out = random_crop(images, 2, np.random.default_rng(0), FILL)
    shifts = set()
    for before, after in zip(images, out, strict=True):
        matches = []
        for dy in range(-2, 3):
            for dx in range(-2, 3):
                expected = FILL[:, None, None].expand(2, 10, 9).clone()
                expected[:, 2:8, 2:7] = before
                if torch.equal(expected[:, 2 + dy : 8 + dy, 2 + dx : 7 + dx], after):
                    matches.append((dy, dx))
        assert len(matches) == 1
        shifts.update(matches)
    assert {dy for dy, _ in shifts} == {dx for _, dx in shifts} == {-2, -1, 0, 1, 2}


def test_a_flip_mirrors_about_half_of_the_images() -> None:
    images = _images(200)
    out = augment(images, Augment(flip=True), np.random.default_rng(0), FILL)
    mirrored = (out == images.flip(-1)).flatten(1).all(1)
    same = (out == images).flatten(1).all(1)
    assert (mirrored ^ same).all()
    assert 70 < int(mirrored.sum()) < 130


def test_erasing_greys_out_one_rectangle_of_the_stated_area() -> None:
    images = torch.zeros(400, 2, 20, 20)
    out = random_erase(images, 0.5, np.random.default_rng(0), FILL)
    gone = (out == FILL[:, None, None]).all(1)
    assert ((out == 0).all(1) | gone).all()
    area = gone.flatten(1).sum(1)
    assert 150 < int((area > 0).sum()) < 250
    assert int(area.max()) <= 1.3 * 0.25 * 400
    for mask in gone[area > 0]:
        rows, columns = mask.any(1), mask.any(0)
        assert int(mask.sum()) == int(rows.sum()) * int(columns.sum())


def test_mixup_blends_images_and_labels_alike() -> None:
    images = _images(8)
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    out, partner, share = mixup(images, 0.4, np.random.default_rng(5))
    assert 0 < share < 1
    torch.testing.assert_close(out, share * images + (1 - share) * images[partner])
    target = blend_labels(labels, partner, share, 3)
    torch.testing.assert_close(target.sum(1), torch.ones(8))
    i = int((labels != labels[partner]).nonzero()[0])
    assert float(target[i, labels[i]]) == pytest.approx(share, rel=1e-5)
    assert float(target[i, labels[partner[i]]]) == pytest.approx(1 - share, rel=1e-5)


def test_the_same_seed_gives_the_same_images() -> None:
    how = Augment(crop=2, flip=True, erase=0.5)
    one, two, other = (
        augment(_images(), how, np.random.default_rng(seed), FILL) for seed in (1, 1, 2)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_nothing_asked_for_changes_nothing() -> None:
    images = _images()
    assert augment(images, Augment(), np.random.default_rng(0), FILL) is images


def test_cutmix_takes_a_rectangle_of_another_image_and_says_how_large() -> None:
    images = torch.arange(6.0)[:, None, None, None].expand(6, 3, 16, 16)
    for seed in range(20):
        mixed, partner, share = cutmix(images, 1.0, np.random.default_rng(seed))
        own = (mixed == images).all(1)
        assert (own | (mixed == images[partner]).all(1)).all()
        changed = partner != torch.arange(6)
        assert torch.allclose(own[changed].float().mean((1, 2)), torch.tensor(share).float())


def test_of_mixup_and_cutmix_a_batch_gets_either() -> None:
    images = torch.rand(4, 1, 8, 8) + torch.arange(4.0)[:, None, None, None]
    both = Augment(mixup=1.0, cutmix=1.0)
    kinds = set()
    for seed in range(20):
        mixed, partner, _ = mix(images, both, np.random.default_rng(seed))
        kept = (mixed == images) | (mixed == images[partner])
        kinds.add(bool(kept.all()))
    assert kinds == {True, False}


@pytest.mark.parametrize("channels", [1, 3])
def test_randaugment_is_decided_by_its_generator_and_stays_between_black_and_white(
    channels: int,
) -> None:
    pytest.importorskip("kornia", reason="RandAugment is kornia's")
    fill, span = torch.full((channels,), -2.0), torch.full((channels,), 5.0)
    unit = torch.rand(12, channels, 16, 16, generator=torch.Generator().manual_seed(0))
    images, state = unit * 5 - 2, torch.get_rng_state()
    first, again, other = (
        rand_augment(images, 9, np.random.default_rng(seed), fill, span) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.get_rng_state())
    assert first.shape == images.shape
    assert -2 - 1e-5 <= float(first.min()) <= float(first.max()) <= 3 + 1e-5


def test_images_whose_white_is_unknown_are_not_changed_at_random() -> None:
    with pytest.raises(DataError, match="your own loader does not say"):
        check_randaugment(None)
