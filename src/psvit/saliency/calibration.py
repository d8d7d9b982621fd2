"""The images that a criterion looks at: checked as they stream by, at most n of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from psvit.capture.running import inputs_in
from psvit.errors import DataError, OptionError

IMAGES = 256
"""Images that a criterion looks at if no number is given."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Where a criterion's images come from, and what else it needs to run the model.

    ``batches`` yields tensors of inputs, e.g. ``[B, C, H, W]``, or sequences that start with
    them, such as ``(images, labels)``; the first ``n`` images are looked at, on ``device``.
    ``seed`` fixes every random choice.
    """

    batches: Iterable[Any]
    n: int = IMAGES
    seed: int = 0
    device: str | torch.device = "cpu"

    def __post_init__(self) -> None:
        if type(self.n) is not int or self.n < 1:
            raise OptionError(
                f"the number of calibration images is {self.n!r}, expected a whole number above 0"
            )

    def inputs(self, count: int = 1, axis: int = 0) -> Iterator[tuple[torch.Tensor, ...]]:
        """Batches of the model's ``count`` inputs, whose images lie on ``axis``.

        Raises DataError for batches of another form, for values that are not finite, and at the
        end if there was no image, or if all were one and the same value throughout.
        """
        seen, values = 0, (float("inf"), float("-inf"))
        for batch in self.batches:
            parts = tuple(
                x.narrow(axis, 0, min(self.n - seen, x.shape[axis]))
                for x in inputs_in(batch, count)
            )
            if parts[0].shape[axis] == 0:
                continue
            _check_finite(parts)
            seen += parts[0].shape[axis]
            values = min(values[0], float(parts[0].min())), max(values[1], float(parts[0].max()))
            yield tuple(x.detach().to(self.device) for x in parts)
            if seen == self.n:
                break
        if seen == 0:
            raise DataError("the data have no images: saliency from data needs some to look at")
        if values[0] == values[1]:
            raise DataError(
                f"every value of the {seen:,} calibration images is {values[0]:g}: blank images "
                "tell nothing about channels, check the data and its preprocessing"
            )


def _check_finite(parts: tuple[torch.Tensor, ...]) -> None:
    if not all(bool(x.isfinite().all()) for x in parts):
        raise DataError("a calibration image holds NaN or infinite values: check the data")
