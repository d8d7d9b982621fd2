"""Lanes and the channels that they merge into: a union-find over numpy arrays.

Every element of every labelled axis starts as a lane of its own. Two lanes that some operation
lines up have to live and die together: they are united. What is left over are the channels.
"""

from __future__ import annotations

import numpy as np

from psvit.records import IntArray


class Lanes:
    """A growing set of lanes, united pairwise, some of them locked with a reason."""

    def __init__(self) -> None:
        self._parent: IntArray = np.zeros(0, dtype=np.int64)
        self._count = 0
        self._locks: list[tuple[IntArray, str]] = []

    def __len__(self) -> int:
        return self._count

    def fresh(self, count: int) -> IntArray:
        """``count`` new lanes, each a channel of its own."""
        start, self._count = self._count, self._count + count
        if self._count > len(self._parent):
            grown = np.arange(max(2 * self._count, 1024), dtype=np.int64)
            grown[:start] = self._parent[:start]
            self._parent = grown
        return np.arange(start, self._count, dtype=np.int64)

    def roots(self, lanes: IntArray) -> IntArray:
        """The representative lane of each lane's channel, same shape."""
        out = self._parent[lanes]
        while True:
            up = self._parent[out]
            if np.array_equal(up, out):
                break
            out = up
        self._parent[lanes] = out
        return out

    def unite(self, a: IntArray, b: IntArray) -> None:
        """Make channels of ``a`` and ``b``, broadcast against each other, the same ones."""
        first, second = np.broadcast_arrays(a, b)
        first, second = self.roots(first.ravel()), self.roots(second.ravel())
        while True:
            differ = first != second
            if not differ.any():
                return
            low = np.minimum(first[differ], second[differ])
            high = np.maximum(first[differ], second[differ])
            np.minimum.at(self._parent, high, low)
            # a high root hooked under one low may have had another: unite those next
            first, second = self.roots(high), self.roots(low)

    def lock(self, lanes: IntArray, reason: str) -> None:
        """Forbid removing the channels of ``lanes``. The first reason given is the one kept."""
        self._locks.append((np.unique(lanes), reason))

    def lock_reasons(self) -> dict[int, str]:
        """Representative lane -> why its channel has to stay."""
        reasons: dict[int, str] = {}
        for lanes, reason in self._locks:
            for root in np.unique(self.roots(lanes)).tolist():
                reasons.setdefault(root, reason)
        return reasons
