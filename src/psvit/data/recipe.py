"""How an image becomes a tensor: said by name or by numbers, never guessed.

C channels, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from psvit.errors import OptionError

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box")


@dataclass(frozen=True)
class Recipe:
    """Scale to H = W = `size`, values to [0, 1], then ``(value - mean) / std`` a channel.

    `resize`: scale the short side to this many pixels, keeping the shape, and cut `size` x
    `size` out of the centre. None: scale the whole image to `size` x `size`.
    One entry in `mean` and `std` means grey images, three mean red, green, blue.

    Raises OptionError for numbers that mean nothing.
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int | None = None
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(float(value) for value in self.mean))
        object.__setattr__(self, "std", tuple(float(value) for value in self.std))
        if self.size < 1:
            raise OptionError(f"recipe: size is {self.size}, expected at least 1 pixel")
        if self.resize is not None and self.resize < self.size:
            raise OptionError(
                f"recipe: resize is {self.resize}, smaller than size {self.size}: the crop of "
                "size x size is cut out of the resized image"
            )
        if len(self.mean) != len(self.std) or len(self.mean) not in (1, 3):
            raise OptionError(
                f"recipe: mean has {len(self.mean)} and std {len(self.std)} numbers, expected 1 "
                "each for grey images or 3 each for colour"
            )
        if not all(math.isfinite(value) for value in self.mean):
            raise OptionError(f"recipe: mean is {self.mean}, expected finite numbers")
        if not all(math.isfinite(value) and value > 0 for value in self.std):
            raise OptionError(f"recipe: std is {self.std}, expected finite numbers above 0")
        if self.interpolation not in INTERPOLATIONS:
            raise OptionError(
                f"recipe: interpolation is {self.interpolation!r}, expected one of "
                f"{', '.join(INTERPOLATIONS)}"
            )

    @property
    def channels(self) -> int:
        """C of the tensors: 1 (grey) or 3 (red, green, blue)."""
        return len(self.mean)

    def to_dict(self) -> dict[str, Any]:
        """Plain data that JSON can hold; `Recipe.from_dict` reads it back equal."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Recipe:
        """Raises OptionError for anything that `to_dict` did not write."""
        try:
            return Recipe(**data)
        except (TypeError, ValueError) as error:
            raise OptionError(
                f"this is not a recipe ({error}): expected size, mean, std, resize, interpolation"
            ) from error


def parse_channels(text: str, flag: str) -> tuple[float, ...]:
    """``"0.49,0.48,0.45"`` -> ``(0.49, 0.48, 0.45)``. Raises OptionError that names `flag`."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise OptionError(
            f"{flag} {text!r}: expected one number a channel, such as 0.49,0.48,0.45"
        ) from error
