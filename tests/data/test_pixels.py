"""Images of every mode become grey or RGB without losing depth; damaged ones say so."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from psvit.data.pixels import UndecodableError, to_tensor
from psvit.data.recipe import Recipe
from psvit.errors import DataError
from tests.data.written import digits, png

GREY = Recipe(size=8, mean=(0.0,), std=(1.0,))
RGB = Recipe(size=8, mean=(0.0,) * 3, std=(1.0,) * 3)
DIGIT = digits(1)[0][0]
VALUES = torch.from_numpy(DIGIT / 255.0).float()


def _encoded(image: Image.Image, kind: str) -> bytes:
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA"])
def test_grey_content_in_any_png_mode_becomes_equal_rgb(mode):
    result = to_tensor(png(DIGIT, mode), RGB)
    assert torch.equal(result, VALUES.expand(3, 8, 8))


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_grey_modes_become_one_channel(mode):
    assert torch.equal(to_tensor(png(DIGIT, mode), GREY), VALUES[None])


def test_one_bit_images_are_black_and_white():
    result = to_tensor(png((DIGIT > 100).astype(np.uint8) * 255, "1"), GREY)
    assert torch.equal(result, torch.from_numpy((DIGIT > 100).astype(np.float32))[None])


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_and_not_clipped(kind):
    deep = Image.fromarray(DIGIT.astype(np.uint16) * 257)
    assert torch.equal(to_tensor(_encoded(deep, kind), GREY), VALUES[None])


def test_floats_have_no_range_to_guess():
    with pytest.raises(UndecodableError, match="no known range"):
        to_tensor(_encoded(Image.fromarray(DIGIT.astype(np.float32)), "TIFF"), GREY)


def test_colours_come_in_the_order_red_green_blue():
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 255
    assert to_tensor(png(red), RGB).mean((1, 2)).tolist() == [1, 0, 0]


def test_cmyk_jpegs_become_rgb():
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    result = to_tensor(_encoded(red, "JPEG"), RGB).mean((1, 2))
    assert (result - torch.tensor([1.0, 0.0, 0.0])).abs().max() < 0.02


def test_a_palette_keeps_its_colours_and_drops_transparency():
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 0, 255, 0])
    out = io.BytesIO()
    image.save(out, "PNG", transparency=bytes([0, 128]))
    assert to_tensor(out.getvalue(), RGB).mean((1, 2)).tolist() == [0, 1, 0]


def test_colour_into_a_grey_recipe_is_an_error_and_no_guess():
    with pytest.raises(DataError, match="in colour"):
        to_tensor(png(DIGIT, "RGB"), GREY)


def test_values_are_normalised_a_channel():
    recipe = Recipe(size=8, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
    result = to_tensor(png(DIGIT), recipe)
    for channel, (mean, std) in enumerate(zip(recipe.mean, recipe.std, strict=True)):
        torch.testing.assert_close(result[channel], (VALUES - mean) / std)


def test_resize_keeps_the_shape_and_cuts_the_centre():
    """A 4 x 8 image with a mark in the middle columns; the crop sees only these."""
    wide = np.zeros((4, 8), np.uint8)
    wide[:, 2:6] = 255
    recipe = Recipe(size=4, mean=(0.0,), std=(1.0,), resize=4, interpolation="nearest")
    assert torch.equal(to_tensor(wide, recipe), torch.ones(1, 4, 4))
    whole = Recipe(size=4, mean=(0.0,), std=(1.0,), interpolation="nearest")
    assert to_tensor(wide, whole)[0, 0].tolist() == [0, 1, 1, 0]


def test_nearest_doubles_pixels_and_bilinear_mixes_them():
    nearest = Recipe(size=16, mean=(0.0,), std=(1.0,), interpolation="nearest")
    doubled = to_tensor(DIGIT, nearest)
    assert torch.equal(doubled[0], VALUES.repeat_interleave(2, 0).repeat_interleave(2, 1))
    bilinear = Recipe(size=16, mean=(0.0,), std=(1.0,))
    assert not torch.equal(to_tensor(DIGIT, bilinear), doubled)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "empty"),
        (b"not an image", "no image"),
        (png(DIGIT)[:60], "damaged"),
        (_encoded(Image.fromarray(np.tile(DIGIT, (40, 40))), "JPEG")[:2000], "damaged"),
    ],
)
def test_bytes_that_are_no_image(raw, message):
    with pytest.raises(UndecodableError, match=message):
        to_tensor(raw, RGB)


def test_a_decompression_bomb_is_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(UndecodableError, match="too large"):
        to_tensor(png(DIGIT), RGB)
