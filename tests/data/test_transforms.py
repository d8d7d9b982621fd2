"""A recipe prepares real photographs as its authors' evaluation does, pixel for pixel.

The transform here is written anew, in float64, from what the authors call: torchvision's Resize,
CenterCrop, ToTensor and Normalize, with the resize that timm, or the authors, compute from
crop_pct. Their own files, run on torchvision 0.29 and timm 1.0, gave psvit's numbers bit for bit.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from psvit.data import make_recipe
from psvit.data.pixels import to_tensor
from tests.data.written import png

BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Width and height: both ways up, a side that is the crop's already, odd halves, too small.
SHAPES = ((500, 375), (427, 640), (224, 301), (97, 160))
AUTHORS = [
    # crop_pct of timm's evaluation transform, which resizes to floor(size / crop_pct)
    ("spikformer", 224, math.floor(224 / 1.0), BICUBIC),
    ("spikingformer", 224, math.floor(224 / 1.0), BICUBIC),
    ("sdt", 224, math.floor(224 / 0.95), BICUBIC),
    ("spikingresformer", 224, math.floor(224 / 0.95), BICUBIC),
    ("spikingresformer", 288, math.floor(288 / 0.95), BICUBIC),
    # build_transform of the others: int(size / crop_pct), where crop_pct is 1 above 224 pixels
    ("sdt-v2", 224, int(224 / (224 / 256)), BICUBIC),
    ("sdt-v3", 224, int(224 / (224 / 232)), BICUBIC),
    ("qkformer", 224, int(224 / (224 / 256)), BICUBIC),
    ("qkformer", 288, int(288 / 1.0), BICUBIC),
    ("qkformer", 384, int(384 / 1.0), BICUBIC),
    ("maxformer", 224, int(224 / (224 / 256)), BICUBIC),
    # torchvision's defaults: SDT's --large-valid, and the customary one
    ("sdt", 288, 320, BILINEAR),
    ("imagenet", 224, 256, BILINEAR),
]


@cache
def _photographs() -> list[tuple[Image.Image, bytes]]:
    found = [Image.fromarray(photo) for photo in load_sample_images().images]
    shaped = [found[i % len(found)].resize(shape) for i, shape in enumerate(SHAPES)]
    return [(photo, png(np.asarray(photo), kind="BMP")) for photo in shaped]


def _theirs(image: Image.Image, short: int, size: int, how: Image.Resampling) -> np.ndarray:
    width, height = image.size
    if width <= height:
        image = image.resize((short, int(short * height / width)), how)
    else:
        image = image.resize((int(short * width / height), short), how)
    pixels = np.asarray(image, dtype=np.float64) / 255
    top = round((pixels.shape[0] - size) / 2.0)
    left = round((pixels.shape[1] - size) / 2.0)
    pixels = pixels[top : top + size, left : left + size]
    return np.stack([(pixels[:, :, c] - MEAN[c]) / STD[c] for c in range(3)])


@pytest.mark.parametrize(("name", "size", "short", "how"), AUTHORS)
def test_pixels_are_those_of_the_authors_evaluation(name, size, short, how):
    recipe = make_recipe(name, size=size)
    assert recipe is not None
    for photo, raw in _photographs():
        expected = torch.from_numpy(_theirs(photo, short, size, how))
        result = to_tensor(raw, recipe).double()
        # One step of 8 bits is 1 / 255 / std, at least 0.017; float32 against float64 is 4e-7.
        assert result.shape == expected.shape
        assert (result - expected).abs().max() < 1e-6
