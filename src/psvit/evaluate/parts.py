"""Accuracy in parts that a journal keeps: a killed evaluation goes on, several processes share it.

A part is a run of consecutive batches. Counts of whole images add up exactly, so how many processes
there were, and which did what, leaves no trace in the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from psvit.evaluate.accuracy import Accuracy, Progress, accuracy
from psvit.journal import Kind, open_journal

IMAGES, FEWEST = 1024, 32
"""Images of a part at most, so that a process that dies costs little, and parts at least, so that
processes end together."""


@dataclass(frozen=True)
class Part:
    """How well the images of the ``number``-th part are classified; see ``Accuracy``."""

    number: int
    n: int
    correct: int
    correct_top5: int | None
    classes: int


def _read(data: Mapping[str, Any]) -> Part:
    if set(data) != {f.name for f in fields(Part)}:
        raise ValueError(f"expected the fields {', '.join(f.name for f in fields(Part))}")
    for name, value in data.items():
        if type(value) is not int and not (name == "correct_top5" and value is None):
            raise ValueError(f"{name} is {value!r}, expected a whole number")
    return Part(**data)


PARTS: Kind[Part] = Kind(
    mark="psvit_evaluation_journal",
    version=1,
    job="evaluation",
    pieces="parts",
    key=lambda part: part.number,
    write=asdict,
    read=_read,
    hashes={"weights": "the weights of the model differ"},
)


def part_size(images: int) -> int:
    """How many images a part of so many is to have, about."""
    return max(1, min(IMAGES, images // FEWEST))


def accuracy_in_parts(
    model: nn.Module,
    parts: Sequence[Iterable[Any]],
    journal: Path,
    settings: Mapping[str, Any],
    *,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> Accuracy:
    """``accuracy`` over all ``parts``, each ``(images, labels)`` batches, kept in ``journal``.

    ``settings`` tell the evaluation from others. ``progress`` hears of parts. Raises as
    ``accuracy`` and ``psvit.journal.open_journal`` do.
    """
    with open_journal(PARTS, journal, "", {**settings, "parts": len(parts)}) as done:
        for number in done.take(range(len(parts))):
            got = accuracy(model, parts[number], device=device)
            done.add(Part(number, got.n, got.correct, got.correct_top5, got.classes))
            if progress is not None:
                progress(len(done.done), len(parts))
        found = [done.done[number] for number in range(len(parts))]
    in_five = [part.correct_top5 for part in found if part.correct_top5 is not None]
    return Accuracy(
        sum(part.correct for part in found),
        sum(part.n for part in found),
        sum(in_five) if len(in_five) == len(found) else None,
        found[0].classes,
    )
