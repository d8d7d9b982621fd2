"""Which channels go, once it is known how many: in each cell the ones that score lowest."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from psvit.errors import OptionError
from psvit.records import Group, Groups, IntArray, Removal, Scores

Levels = Mapping[int, int]
"""Tie id -> the number of channels that every cell of every group of the tie gives up."""


def choose(groups: Groups, scores: Scores, levels: Levels) -> Removal:
    """The removal with ``levels``: the lowest scores of each cell, ties to the lower index.

    Raises OptionError if a group concerned has no score for each channel, or a NaN.
    """
    concerned = [g for g in groups if levels.get(g.tie, 0) > 0]
    return take({g.id: rank(g, scores) for g in concerned}, groups, levels)


def rank(group: Group, scores: Scores) -> tuple[IntArray, ...]:
    """For each cell its channels from the least important to the most important."""
    score = scores.get(group.id)
    if score is None or tuple(score.shape) != (group.size,):
        got = "none" if score is None else f"shape {list(score.shape)}"
        raise OptionError(
            f"group {group.name} has {group.size} channels but its scores are {got}: "
            "compute the saliency on these groups"
        )
    values = score.detach().cpu().double().numpy()
    if np.isnan(values).any():
        raise OptionError(f"a score of group {group.name} is NaN: its channels cannot be ranked")
    ranked = []
    for cell in group.cells:
        members = np.sort(np.asarray(cell, dtype=np.int64))
        ranked.append(members[np.argsort(values[members], kind="stable")])
    return tuple(ranked)


def take(
    ranking: Mapping[int, tuple[IntArray, ...]], groups: Groups, levels: Levels
) -> dict[int, list[int]]:
    """The first ``levels[tie]`` channels of each ranked cell, sorted, for ranked groups."""
    removal: dict[int, list[int]] = {}
    for group in groups:
        count = levels.get(group.tie, 0)
        if count > 0 and group.id in ranking:
            lowest = np.concatenate([cell[:count] for cell in ranking[group.id]])
            removal[group.id] = [int(c) for c in np.sort(lowest)]
    return removal
