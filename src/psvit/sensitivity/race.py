"""Which points to look at again: those whose place among the others is not clear yet.

All points first see the same few images. From look to look a point sees twice as many in all, and
drops out once it is ranked: once the 95 % interval of the difference to every other point, on the
images that both have seen, is clear of 0 or too narrow to matter. The points with most rivals left
go first, until the images that the race may cost are used up. So where a point stands decides how
many images it gets, and its interval says how much is known about it. What the race decides
follows from finished looks alone: a resumed or shared analysis goes the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from psvit.errors import OptionError
from psvit.sensitivity.effect import interval

Key = tuple[int, int]
"""A point: its tie, and how many channels of each cell are removed."""

DENSE_RUNS = 3
"""Forwards that an image costs once, whatever is pruned: the whole model, its recording, and the
way up to what is pruned."""


@dataclass(frozen=True)
class Race:
    """How far a race goes.

    ``share``: the forwards it may cost, as a fraction of what ``images`` forwards for each point
    cost (None: as many images as the analysis is given). The first look is always taken. Forwards
    that run only from what is pruned count as whole ones. ``first``: images of the first look.
    ``close``: a difference that is known to a smaller part of the larger divergence does not
    matter.
    """

    share: float = 1 / 20
    images: int | None = None
    first: int = 16
    close: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise OptionError(
                f"the share of the cost is {self.share!r}, expected a fraction above 0 and up to 1"
            )
        if self.first < 2:
            raise OptionError(f"the first look is at {self.first} images, expected 2 or more")

    def sizes(self, n: int) -> tuple[int, ...]:
        """Images of each look; together ``n``."""
        sizes = [min(self.first, n)]
        while sum(sizes) < n:
            sizes.append(min(sum(sizes), n - sum(sizes)))
        return tuple(sizes)

    def forwards(self, n: int, points: int) -> float:
        """How many forwards the race may cost."""
        return self.share * (self.images or n) * points


def next_keys(race: Race, sizes: Sequence[int], seen: Mapping[Key, torch.Tensor]) -> list[Key]:
    """The points to take another look at, in order; none once the race is over.

    ``seen``: the divergence of each image that a point has been looked at on, ``[n]``.
    """
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    most = max(len(kl) for kl in seen.values())
    spent = sum(len(kl) for kl in seen.values()) + DENSE_RUNS * most
    left = race.forwards(ends[-1], len(seen)) - spent
    chosen: list[Key] = []
    for key in _by_rivals(race, seen):
        n = len(seen[key])
        if n == ends[-1]:
            continue
        size = sizes[ends.index(n) + 1]
        cost = size + DENSE_RUNS * max(0, n + size - most)
        if cost <= left:
            chosen.append(key)
            left -= cost
            most = max(most, n + size)
    return chosen


def _by_rivals(race: Race, seen: Mapping[Key, torch.Tensor]) -> list[Key]:
    """The points that are not ranked yet, those with most rivals first."""
    rivals = dict.fromkeys(seen, 0)
    keys = sorted(seen, key=lambda key: float(seen[key].mean()))
    alone = {key: interval(kl) for key, kl in seen.items()}
    for place, one in enumerate(keys):
        for other in keys[:place]:
            apart = alone[other][2] < alone[one][1]  # then the difference is clear of 0, too
            if not apart and _undecided(race, seen[one], seen[other]):
                rivals[one] += 1
                rivals[other] += 1
    return sorted((key for key in keys if rivals[key]), key=lambda key: -rivals[key])


def _undecided(race: Race, one: torch.Tensor, other: torch.Tensor) -> bool:
    n = min(len(one), len(other))
    _, low, high = interval(one[:n] - other[:n])
    matters = race.close * max(float(one.mean()), float(other.mean()))
    return low <= 0 <= high and high - low > 2 * matters
