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
"""Logits that differ by more come from a spike that flipped at its threshold."""

Forward = Callable[[torch.Tensor], torch.Tensor]
"""Images ``[B, ...]`` -> logits ``[B, K]``, on the CPU."""


@dataclass(frozen=True)
class Format:
    """How a format is written and read.

    ``extra``: what to install, ``psvit[extra]``; None needs nothing. ``write`` puts a program into
    a file, and says what there is to say of it. ``read`` gives what runs a file.
    """

    suffix: str
    extra: str | None
    write: Callable[[ExportedProgram, Path], Mapping[str, Any]]
    read: Callable[[Path], Forward]


@dataclass(frozen=True)
class Comparison:
    """Outputs of a file beside those of the model, on the same ``n`` images.

    ``same_top1``: images with the same first guess. ``differing``: images of which some logit
    differs by more than ``tolerance``: in a spiking network one spike that flips at its threshold
    does that. ``largest``: the largest difference of a logit among all others.
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


@dataclass(frozen=True)
class Export:
    """A written file. ``details``: opset, producer, operators, by format."""

    path: Path
    format: str
    weights: str
    bytes: int
    input_shape: tuple[int, ...]
    comparison: Comparison
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As the JSON beside the file has it."""
        return {
            "psvit_export": EXPORT_VERSION,
            "file": self.path.name,
            "format": self.format,
            "weights": self.weights,
            "bytes": self.bytes,
            "input": {"name": "images", "shape": ["batch", *self.input_shape], "dtype": "float32"},
            "output": {"name": "logits", "shape": ["batch", "classes"]},
            "comparison": asdict(self.comparison),
            **self.details,
        }
