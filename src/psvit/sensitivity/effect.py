"""What a removal does to the outputs and inside: intervals, firing rates, potentials."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

Z_95 = 1.959963984540054
"""The 97.5 % point of the normal distribution."""


def mean_interval(values: torch.Tensor) -> tuple[float, float, float]:
    """Mean of ``[n]`` values of 0 or more, and its 95 % interval (normal, not below 0)."""
    mean = float(values.mean())
    half = Z_95 * float(values.std(correction=1)) / math.sqrt(len(values))
    return mean, max(0.0, mean - half), mean + half


@dataclass
class Activity:
    """Sums over the inputs and spikes of every neuron layer of the runs it has observed."""

    taken: dict[str, list[torch.Tensor]] = field(default_factory=dict)
    fired: dict[str, list[torch.Tensor]] = field(default_factory=dict)
    counts: dict[str, list[int]] = field(default_factory=dict)

    def takes(self, name: str, x: Any) -> None:
        """The input of a neuron layer, before the call."""
        self.taken.setdefault(name, []).append(x.sum(dtype=torch.float64))

    def gives(self, name: str, y: Any) -> None:
        """Its spikes: whatever is not 0."""
        self.fired.setdefault(name, []).append(y.count_nonzero())
        self.counts.setdefault(name, []).append(y.numel())

    def rates(self) -> dict[str, float]:
        """Spikes a neuron and step, by layer; pruned channels count as silent neurons."""
        return {n: _sum(self.fired[n]) / max(sum(count), 1) for n, count in self.counts.items()}

    def potentials(self) -> dict[str, float]:
        """Mean input of a neuron and step, by layer."""
        return {n: _sum(self.taken[n]) / max(sum(count), 1) for n, count in self.counts.items()}


def drift(dense: Mapping[str, float], pruned: Mapping[str, float]) -> float:
    """Mean over the layers of ``dense`` of the absolute change; 0 where one was not run again."""
    if not dense:
        return 0.0
    return math.fsum(abs(pruned.get(n, rate) - rate) for n, rate in dense.items()) / len(dense)


def _sum(parts: list[torch.Tensor]) -> float:
    return math.fsum(float(part) for part in parts)
