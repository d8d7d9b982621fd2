"""Budgets as people write them: a share of what there is, or an amount with its unit.

    memory=22.4%   memory=0.224   memory=1.2MB   params=300k   macs=5M   sops=1.5G   energy=20uJ
    latency=30%    latency=3ms

All of them say what to *save*, not what is left.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real

from psvit.errors import OptionError
from psvit.records import Figures

UNITS: Mapping[str, Callable[[Figures], float | None]] = {
    "memory": lambda figures: figures.memory_bytes,
    "params": lambda figures: figures.params,
    "macs": lambda figures: figures.macs,
    "sops": lambda figures: figures.sops,
    "energy": lambda figures: figures.energy_pj,
    "latency": lambda figures: figures.latency_ms,
}
"""Unit of a budget -> its figure: bytes, numbers, numbers of one image, pJ of one image, ms of a
forward."""

_COUNT = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_BYTES = {
    "B": 1.0,
    **{f"{p}B": f for p, f in {**_COUNT, "K": 1e3}.items()},
    **{f"{p}iB": 1024.0**i for i, p in enumerate("KMGT", start=1)},
}
_TIME = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}
_ENERGY = {"pJ": 1.0, "nJ": 1e3, "uJ": 1e6, "µJ": 1e6, "mJ": 1e9, "J": 1e12}
SUFFIXES: Mapping[str, Mapping[str, float]] = {
    "memory": _BYTES,
    "params": _COUNT,
    "macs": _COUNT,
    "sops": _COUNT,
    "energy": _ENERGY,
    "latency": _TIME,
}
"""Unit of a budget -> what may follow an amount of it -> its factor."""

_EXAMPLES = {
    "memory": "1.2MB", "params": "300k", "macs": "5M", "sops": "5M", "energy": "20uJ",
    "latency": "3ms",
}  # fmt: skip
_NUMBER = re.compile(r"\s*(?P<number>[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?)\s*(?P<tail>\S*)\s*")


@dataclass(frozen=True)
class Share:
    """A fraction to save, in (0, 1)."""

    fraction: float


@dataclass(frozen=True)
class Amount:
    """A figure to save, above 0, in the unit's own measure (bytes, pJ, ...), and its text."""

    figure: float
    text: str


Budget = Share | Amount


def read_budgets(save: Mapping[str, float | str]) -> dict[str, Budget]:
    """The budgets by unit. Raises OptionError for a unit or a value that means nothing."""
    budgets: dict[str, Budget] = {}
    for unit, value in save.items():
        if unit not in UNITS:
            raise OptionError(f"a budget cannot be in {unit!r}, expected one of {', '.join(UNITS)}")
        budgets[unit] = _read_text(unit, value) if isinstance(value, str) else _share(unit, value)
    return budgets


def _read_text(unit: str, text: str) -> Budget:
    match = _NUMBER.fullmatch(text)
    tail = match["tail"] if match else ""
    if match is None or (tail not in ("", "%") and tail not in SUFFIXES[unit]):
        raise OptionError(
            f"the budget for {unit} is {text!r}, expected a share such as 22.4% or 0.224, or an "
            f"amount such as {_EXAMPLES[unit]} (units: {', '.join(SUFFIXES[unit])})"
        )
    number = float(match["number"])
    if tail in ("", "%"):
        return _share(unit, number / 100 if tail else number, text)
    if number <= 0:
        raise OptionError(f"the budget for {unit} is {text!r}, expected an amount above 0")
    return Amount(number * SUFFIXES[unit][tail], text.strip())


def _share(unit: str, value: object, text: str | None = None) -> Share:
    shown = repr(value if text is None else text)
    if isinstance(value, bool) or not isinstance(value, Real):
        raise OptionError(
            f"the budget for {unit} is {shown}, expected the fraction to save as a number"
        )
    fraction = float(value)
    if not 0 < fraction < 1:  # also refuses NaN
        hint = f" (for {fraction:g} % give {fraction / 100:g})" if 1 < fraction < 100 else ""
        raise OptionError(
            f"the budget for {unit} is {shown}, expected the fraction to save, "
            f"above 0 and below 1{hint}, or an amount such as '{_EXAMPLES[unit]}'"
        )
    return Share(fraction)
