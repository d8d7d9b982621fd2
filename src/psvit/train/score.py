"""How good weights are on images held out of training, and which of two are better."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """Top-1 ``accuracy`` in [0, 1] and mean ``loss`` an image; None: not measured.

    The one of lower loss is better; without losses, or of equal ones, the more accurate. Of a few
    hundred images the number that are right hardly tells weights apart that a loss does.
    """

    accuracy: float | None = None
    loss: float | None = None

    @property
    def rank(self) -> tuple[float, float]:
        """The larger, the better."""
        return 0.0 if self.loss is None else -self.loss, self.accuracy or 0.0

    def beats(self, other: Score | None) -> bool:
        """Whether this is better than another, or the first."""
        return other is None or self.rank > other.rank
