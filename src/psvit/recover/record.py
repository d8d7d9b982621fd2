"""What a recovery has done: plain data for metrics.json and the report."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Tried:
    """One step of a recovery, and what it did on images that no fit has seen.

    ``kl_before`` and ``kl_after``: mean KL divergence from the dense model, in nats an image.
    ``bn``: whether it was best followed by matched statistics. ``seconds``: with its measurement.
    """

    step: str
    kl_before: float
    kl_after: float
    kept: bool
    bn: bool
    seconds: float


@dataclass(frozen=True)
class Record:
    """A recovery: images that it was fitted on, images held out to judge it, and its steps.

    ``notes``: what fell short, in words.
    """

    images: int
    held_out: int = 0
    steps: tuple[Tried, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data that JSON can hold."""
        data = asdict(self)
        return {**data, "steps": list(data["steps"]), "notes": list(self.notes)}
