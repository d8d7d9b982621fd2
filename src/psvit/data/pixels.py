"""From an encoded image, or grey pixels, to a normalised tensor. The only file that uses Pillow.

C channels, H height, W width.
"""

from __future__ import annotations

import io

import numpy as np
import torch

from psvit.data.recipe import Recipe
from psvit.data.source import Raw, UndecodableError
from psvit.errors import DataError, MissingExtra

try:
    from PIL import Image, UnidentifiedImageError
except ImportError as error:
    raise MissingExtra(
        "reading images needs Pillow, which is not installed: pip install 'psvit[data]'"
    ) from error

GREY = frozenset({"1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
_RESAMPLE = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
}


def to_tensor(raw: Raw, recipe: Recipe) -> torch.Tensor:
    """A float32 tensor ``[C, H, W]`` with H = W = ``recipe.size``.

    Raises UndecodableError for bytes that are no image, DataError for a colour image where the
    recipe is grey.
    """
    image = _fit(_convert(_open(raw), recipe.channels), recipe)
    pixels = np.asarray(image, dtype=np.float32) / np.float32(255)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    mean, std = np.array(recipe.mean, np.float32), np.array(recipe.std, np.float32)
    return torch.from_numpy(np.ascontiguousarray(((pixels - mean) / std).transpose(2, 0, 1)))


def _open(raw: Raw) -> Image.Image:
    if not isinstance(raw, bytes):
        return Image.fromarray(raw)
    if not raw:
        raise UndecodableError("it is empty")
    try:
        image = Image.open(io.BytesIO(raw))
        image.load()
    except Image.DecompressionBombError as error:
        raise UndecodableError("it is too large to be an image for a classifier") from error
    except UnidentifiedImageError as error:
        raise UndecodableError("it is no image in a format known here") from error
    except Exception as error:
        # Each format's decoder raises errors of its own at damaged bytes: OSError, SyntaxError,
        # struct.error, zlib.error, ValueError, ... All mean the same: this image is damaged.
        raise UndecodableError(f"it is damaged ({' '.join(str(error).split())})") from error
    return image


def _convert(image: Image.Image, channels: int) -> Image.Image:
    """8 bits a channel, grey or RGB. Transparency is dropped, as is usual in training."""
    if image.mode in GREY:
        grey = _eight_bits(image)
        return grey if channels == 1 else grey.convert("RGB")
    if channels == 1:
        raise DataError(
            f"it is in colour (mode {image.mode}), the recipe is for grey images: give three "
            "numbers in --mean and --std, or convert the images"
        )
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of any depth as 8 bits. Pillow's own conversion would clip 16 bits at 255."""
    if not image.mode.startswith("I") and image.mode != "F":
        return image.convert("L")
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 0xFFFF:
        raise UndecodableError(
            f"its values ({image.mode}, {values.min()} to {values.max()}) have no known range, "
            "expected 8 or 16 bits"
        )
    return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))


def _fit(image: Image.Image, recipe: Recipe) -> Image.Image:
    """Scale and crop to size x size."""
    how = _RESAMPLE[recipe.interpolation]
    size = recipe.size
    if recipe.resize is None:
        return image if image.size == (size, size) else image.resize((size, size), how)
    width, height = image.size
    short = min(width, height)
    if short != recipe.resize:
        width = width * recipe.resize // short
        height = height * recipe.resize // short
        image = image.resize((width, height), how)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size))
