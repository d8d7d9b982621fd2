"""Events that a camera would see of real digits, and their frames as SpikingJelly writes them.

T steps, P polarities, H height, W width. N-MNIST was recorded by moving a camera in front of
images: three saccades along a triangle. Here the digit moves by whole pixels of a finer grid
along such a path, and a pixel sends an event, brighter or darker, whenever its log intensity has
changed by `THRESHOLD` since its last one (the usual model of a DVS pixel, without noise).
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from tests.data.written import digits

THRESHOLD = 0.25
SIDE, MARGIN = 16, 4
PATH = [(0, 0), (1, 2), (2, 4), (3, 2), (4, 0), (2, 0), (0, 0)]
"""Corners of the triangle, in pixels; what lies between is interpolated in SUBSTEPS."""
SUBSTEPS = 4


def events_of(pixels: np.ndarray) -> np.ndarray:
    """Events of one grey digit ``[8, 8]``, rows of ``(t, x, y, p)`` in the order of time."""
    image = np.kron(pixels.astype(np.float64) / 255, np.ones((2, 2)))
    last: np.ndarray | None = None
    found: list[tuple[int, int, int, int]] = []
    for t, (dy, dx) in enumerate(_positions()):
        canvas = np.zeros((SIDE + 2 * MARGIN, SIDE + 2 * MARGIN))
        canvas[dy + 2 : dy + 2 + 16, dx + 2 : dx + 2 + 16] = image
        level = np.log(0.1 + canvas)
        if last is None:
            last = level.copy()
            continue
        crossings = np.trunc((level - last) / THRESHOLD).astype(int)
        for y, x in zip(*np.nonzero(crossings), strict=True):
            count = int(crossings[y, x])
            found += [(t, int(x), int(y), int(count > 0))] * abs(count)
            last[y, x] += count * THRESHOLD
    return np.array(found)


def _positions() -> list[tuple[int, int]]:
    steps = []
    for (y, x), (y2, x2) in pairwise(PATH):
        for k in range(SUBSTEPS):
            share = k / SUBSTEPS
            steps.append((round(y + (y2 - y) * share), round(x + (x2 - x) * share)))
    return [*steps, PATH[-1]]


def frames_of(events: np.ndarray, steps: int) -> np.ndarray:
    """Counts ``[T, 2, H, W]``; each frame has the same number of events, as split_by='number'."""
    side = SIDE + 2 * MARGIN
    frames = np.zeros((steps, 2, side, side), np.float32)
    share = len(events) // steps
    for j in range(steps):
        part = events[j * share : len(events) if j == steps - 1 else (j + 1) * share]
        np.add.at(frames[j], (part[:, 3], part[:, 2], part[:, 1]), 1)
    return frames


def write_events(root: Path, n: int = 40, split: str = "train", steps: int = 4) -> Path:
    """``root/CLASS/NUMBER.npz`` of the first n digits of a split; returns root."""
    for i, (pixels, label) in enumerate(zip(*digits(n, split), strict=True)):
        folder = root / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(folder / f"{i:04d}.npz", frames=frames_of(events_of(pixels), steps))
    return root
