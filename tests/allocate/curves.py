"""Sensitivity curves made by hand or drawn at random."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from psvit.allocate import Problem, build_ladders, pose
from psvit.cost import measure
from psvit.groups import fingerprint
from psvit.records import Curves, Figures, Graph, Groups, Point
from tests.allocate.synthetic import random_scores

RATIOS = (0.125, 0.25, 0.5, 0.75, 0.9)


def curves_of(
    graph: Graph,
    groups: Groups,
    kl: Callable[[int, float], float],
    drop: Callable[[int, float], float] | None = None,
    ratios: Sequence[float] = RATIOS,
    accuracy: float | None = 0.9,
) -> Curves:
    """Curves with the KL (and accuracy drop) that functions of (tie, ratio) give."""
    ladders = build_ladders(graph, groups)
    points = []
    for tie, cell in ladders.cell.items():
        for removed in sorted({max(1, round(r * cell)) for r in ratios}):
            lost = None if drop is None else drop(tie, removed / cell)
            value = kl(tie, removed / cell)
            points.append(
                Point(tie, removed / cell, removed, 64, value, value, value, lost, lost, lost,
                      0.0, 0.0, {})
            )  # fmt: skip
    dense = measure(graph, groups, {})
    return Curves(
        fingerprint(graph),
        {},
        {g.tie: g.name for g in groups},
        Figures(dense.memory_bytes, dense.params, dense.macs, None if drop is None else accuracy),
        tuple(points),
    )


def random_curves(graph: Graph, groups: Groups, seed: int, noise: float = 0.2) -> Curves:
    """Convex and concave curves of very different heights, with noise; accuracy with more."""
    random = np.random.default_rng(seed)
    height: dict[int, float] = {g.tie: 10 ** random.uniform(-3, 1) for g in groups}
    power: dict[int, float] = {g.tie: random.uniform(0.5, 3) for g in groups}

    def kl(tie: int, ratio: float) -> float:
        return height[tie] * ratio ** power[tie] * random.uniform(1 - noise, 1 + noise)

    def drop(tie: int, ratio: float) -> float:
        return min(height[tie] * ratio ** power[tie], 0.8) + noise * random.normal() / 20

    return curves_of(graph, groups, kl, drop)


def posed(graph: Graph, groups: Groups, save: dict, seed: int = 0, **options: object) -> Problem:
    """A problem with random scores and random curves."""
    curves = random_curves(graph, groups, seed)
    return pose(graph, groups, random_scores(groups), save, curves=curves, **options)
