"""What a catalogue entry is: a model file of a public repository, and how to build from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

Build = Callable[[Any, int], nn.Module]
"""Takes the imported file and T, and returns the model."""
Size = int | Literal["T"]
Shape = tuple[Size, ...]

IMAGE: Shape = (2, 3, 32, 32)
EVENTS_64: Shape = (2, "T", 2, 64, 64)
EVENTS_128: Shape = (2, "T", 2, 128, 128)


@dataclass(frozen=True)
class Published:
    """A model file of a repository; ``shape`` of its input, where "T" stands for time steps.

    ``more``: the shapes of further inputs, for a model that takes several. ``needs``: packages
    that the file computes with and that the repository leaves to the user.
    """

    name: str
    repository: str
    file: str
    shape: Shape
    build: Build
    steps: tuple[int, ...] = (1, 4)
    batch_axis: int = 0
    more: tuple[Shape, ...] = ()
    needs: tuple[str, ...] = ()

    def sizes(self, T: int, batch: int) -> list[list[int]]:
        """The shapes of the inputs for ``batch`` samples."""
        return [self._sized(shape, T, batch) for shape in (self.shape, *self.more)]

    def _sized(self, shape: Shape, T: int, batch: int) -> list[int]:
        sizes = [T if size == "T" else size for size in shape]
        sizes[self.batch_axis] = batch
        return sizes
