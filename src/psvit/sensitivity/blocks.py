"""An analysis summed up by block, as papers report it. Names tell blocks, for people only."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from psvit.records import Curves, Point
from psvit.sensitivity.trials import STREAM

_NUMBERED = re.compile(r"(?:[A-Za-z_]\w*\.)*?[A-Za-z_]\w*\.\d+(?:\.[A-Za-z_]\w*\.\d+)*(?=\.)")


@dataclass(frozen=True)
class Block:
    """The ties whose first layer lies in one block, each pruned alone, summed.

    ``kl[ratio]`` in nats an image, ``accuracy_drop[ratio]`` in [-1, 1] (None without labels),
    ``saved[ratio][unit]``: sums over the ties. A sum is what pruning all of them would do if
    their effects simply added up. A tie without a point at a ratio counts with its nearest one.
    """

    name: str
    ties: tuple[int, ...]
    kl: Mapping[float, float]
    accuracy_drop: Mapping[float, float | None]
    saved: Mapping[float, Mapping[str, float]]


def by_block(curves: Curves) -> tuple[Block, ...]:
    """The blocks of an analysis, in the order of its ties."""
    members: dict[str, list[int]] = defaultdict(list)
    for tie, name in curves.names.items():
        members[block_of(name)].append(tie)
    points: dict[int, list[Point]] = defaultdict(list)
    for point in curves.points:
        points[point.tie].append(point)
    blocks = []
    for name, ties in members.items():
        measured = [tie for tie in ties if points[tie]]
        at = {
            ratio: [nearest(points[tie], ratio) for tie in measured] for ratio in ratios_of(curves)
        }
        kl = {ratio: sum(p.kl for p in chosen) for ratio, chosen in at.items()}
        drop = {ratio: _drop(chosen) for ratio, chosen in at.items()}
        saved = {ratio: _saved(chosen) for ratio, chosen in at.items()}
        blocks.append(Block(name, tuple(ties), kl, drop, saved))
    return tuple(blocks)


def block_of(name: str) -> str:
    """`blocks.0.attn.q_conv` -> `blocks.0`, `stages.1.blocks.2.mlp.fc1` -> `stages.1.blocks.2`,
    and where no part is numbered the first: `stem.conv` -> `stem`."""
    if name.startswith(STREAM):
        return STREAM  # it runs through all blocks
    numbered = _NUMBERED.match(name)
    return numbered.group() if numbered else re.split(r"[.\s\[]", name)[0]


def ratios_of(curves: Curves) -> list[float]:
    """The ratios of the grid, ascending."""
    grid = curves.settings.get("grid")
    return list(grid) if grid else sorted({point.ratio for point in curves.points})


def nearest(points: list[Point], ratio: float) -> Point:
    """The point of a tie that stands for a ratio."""
    return min(points, key=lambda p: (abs(p.ratio - ratio), p.ratio))


def _drop(points: list[Point]) -> float | None:
    drops = [p.accuracy_drop for p in points if p.accuracy_drop is not None]
    return sum(drops) if len(drops) == len(points) else None


def _saved(points: list[Point]) -> dict[str, float]:
    units = dict.fromkeys(unit for p in points for unit in p.saved)
    return {unit: sum(p.saved.get(unit, 0) for p in points) for unit in units}
