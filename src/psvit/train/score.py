"""How good weights are on images held out of training, and which of two are better."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """Top-1 ``accuracy`` in [0, 1] and mean ``loss`` an image; None: not measured.

    The more accurate is better; of two as accurate, or without labels, the one of lower loss.
    """

    accuracy: float | None = None
    loss: float | None = None

    def beats(self, other: Score | None) -> bool:
        """Whether this is better than another, or the first."""
        return other is None or self._rank() > other._rank()

    def _rank(self) -> tuple[float, float]:
        return self.accuracy or 0.0, 0.0 if self.loss is None else -self.loss
