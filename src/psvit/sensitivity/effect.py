"""What a removal does to the outputs and inside: intervals, firing rates, potentials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from scipy.stats import t as student


def mean_interval(values: torch.Tensor) -> tuple[float, float, float]:
    """Mean of ``[n]`` values of 0 or more, and its 95 % interval (Hall's), not below 0."""
    mean, low, high = interval(values)
    return mean, max(0.0, low), high


def interval(values: torch.Tensor) -> tuple[float, float, float]:
    """Mean of ``[n]`` values, and its 95 % interval.

    Divergences are skewed: most images lose nothing, a few lose much, and on few images Student's
    interval is too short on the side that matters. So this is Hall's (Journal of the Royal
    Statistical Society B 54, 1992, section 2): with g the sample skewness and

        h(w) = sqrt(n) / (g / 3) * ((1 + g (w / sqrt(n) - g / 6 n)) ** (1/3) - 1)

    the interval is from mean - h(t) s / sqrt(n) to mean - h(-t) s / sqrt(n), with Student's t.
    """
    n, mean = len(values), float(values.mean())
    deviation = float(values.std(correction=1))
    if not deviation > 0:
        return mean, mean, mean
    t = _student(n - 1)
    skewness = float(((values - mean) ** 3).mean()) / deviation**3
    error, root = deviation / math.sqrt(n), math.sqrt(n)

    def unskewed(w: float) -> float:
        if abs(skewness) < 1e-6:
            return w
        inside = 1 + skewness * (w / root - skewness / (6 * n))
        return root / (skewness / 3) * (math.copysign(abs(inside) ** (1 / 3), inside) - 1)

    low, high = mean - unskewed(t) * error, mean - unskewed(-t) * error
    return mean, min(low, mean), max(high, mean)


@cache
def _student(freedom: int) -> float:
    """The 97.5 % point of Student's t distribution."""
    return float(student.ppf(0.975, freedom))


Sums = Mapping[str, tuple[float, int, int]]
"""Neuron layer -> summed inputs, spikes, and neurons times steps times images."""


@dataclass
class Activity:
    """Sums over the inputs and spikes of every neuron layer of the runs it has observed."""

    taken: dict[str, list[torch.Tensor]] = field(default_factory=dict)
    fired: dict[str, list[torch.Tensor]] = field(default_factory=dict)
    counts: dict[str, list[int]] = field(default_factory=dict)

    def takes(self, name: str, x: Any) -> None:
        """The input of a neuron layer, before the call."""
        self.taken.setdefault(name, []).append(x.detach().sum(dtype=torch.float64))

    def gives(self, name: str, y: Any) -> None:
        """Its spikes: whatever is not 0."""
        self.fired.setdefault(name, []).append(y.count_nonzero())
        self.counts.setdefault(name, []).append(y.numel())

    def sums(self) -> dict[str, tuple[float, int, int]]:
        """What was observed, by layer."""
        return {
            name: (
                math.fsum(float(part) for part in self.taken[name]),
                sum(int(part) for part in self.fired[name]),
                sum(count),
            )
            for name, count in self.counts.items()
        }


def added(parts: Sequence[Sums]) -> dict[str, tuple[float, int, int]]:
    """The sums of several runs as one."""
    names = dict.fromkeys(name for part in parts for name in part)
    some = {name: [part[name] for part in parts if name in part] for name in names}
    return {
        name: (math.fsum(s[0] for s in own), sum(s[1] for s in own), sum(s[2] for s in own))
        for name, own in some.items()
    }


def rates(sums: Sums) -> dict[str, float]:
    """Spikes a neuron and step, by layer; pruned channels count as silent neurons."""
    return {name: fired / max(count, 1) for name, (_, fired, count) in sums.items()}


def potentials(sums: Sums) -> dict[str, float]:
    """Mean input of a neuron and step, by layer."""
    return {name: taken / max(count, 1) for name, (taken, _, count) in sums.items()}


def drift(dense: Mapping[str, float], pruned: Mapping[str, float]) -> float:
    """Mean over the layers of ``dense`` of the absolute change; 0 where one was not run again."""
    if not dense:
        return 0.0
    return math.fsum(abs(pruned.get(n, rate) - rate) for n, rate in dense.items()) / len(dense)
