"""What an export is, and how its outputs compare with the model's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

EXPORT_VERSION = 1
TOLERANCE = 1e-4
"""By how much logits may differ by rounding alone."""

Forward = Callable[[torch.Tensor], torch.Tensor]
"""Images ``[B, ...]`` -> logits ``[B, K]``, on the CPU."""


@dataclass(frozen=True)
class Format:
    """How a format is written and read.

    ``extra``: what to install, ``psvit[extra]``; None needs nothing. ``write`` puts a program into
    a file, and says what there is to say of it. ``read`` gives what runs a file. ``largest``: how
    many images a run can take, for a runtime that plans its memory beforehand; None for any.
    """

    suffix: str
    extra: str | None
    write: Callable[[ExportedProgram, Path], Mapping[str, Any]]
    read: Callable[[Path], Forward]
    largest: int | None = None


@dataclass(frozen=True)
class Comparison:
    """Outputs of a file beside those of the model, on the same ``n`` images.

    ``same_top1``: images with the same first guess. ``differing``: images of which some logit
    differs by more than ``tolerance``: in a spiking network one spike that flips at its threshold
    does that. So it was in ``flipped`` of the first ``followed`` of them (``psvit.export.flips``).
    ``largest``: the largest difference of a logit among all others.
    ``correct_model`` and ``correct_file``: images whose label is the first guess, of ``labelled``.
    """

    n: int
    same_top1: int
    differing: int
    largest: float
    largest_differing: float
    labelled: int = 0
    correct_model: int = 0
    correct_file: int = 0
    tolerance: float = TOLERANCE
    followed: int = 0
    flipped: int = 0


@dataclass(frozen=True)
class PartMatch:
    """Values of a part of the model that was written beside the model's own, on ``n`` images.

    ``values``: how many there are; ``spikes``: how many of the model's are 1, None if they are not
    all 0 or 1. ``differing_values``: how many differ by more than TOLERANCE, in ``differing``
    images; ``largest``: the largest difference in the others.
    """

    name: str
    layers: tuple[str, ...]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    n: int
    values: int
    spikes: int | None
    differing_values: int
    differing: int
    largest: float
    largest_differing: float


@dataclass(frozen=True)
class Left:
    """An operation that is in no part: where it is, what it is, and why."""

    layer: str
    operation: str
    reason: str


@dataclass(frozen=True)
class Export:
    """A written file. ``details``: opset, producer, operators, by format.

    ``comparison`` is of the whole model; None where the file holds ``parts`` of it, each compared
    alone, and ``left`` is what is in none.
    """

    path: Path
    format: str
    weights: str
    bytes: int
    input_shape: tuple[int, ...]
    comparison: Comparison | None
    details: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple[PartMatch, ...] = ()
    left: tuple[Left, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As the JSON beside the file has it."""
        return {
            "psvit_export": EXPORT_VERSION,
            "file": self.path.name,
            "format": self.format,
            "weights": self.weights,
            "bytes": self.bytes,
            "input": {"name": "images", "shape": ["batch", *self.input_shape], "dtype": "float32"},
            **self._compared(),
            **self.details,
        }

    def _compared(self) -> dict[str, Any]:
        if self.comparison is None:
            return {
                "parts": [asdict(part) for part in self.parts],
                "left": [asdict(left) for left in self.left],
            }
        return {
            "output": {"name": "logits", "shape": ["batch", "classes"]},
            "comparison": asdict(self.comparison),
        }
