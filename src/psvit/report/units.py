"""Numbers with their units, as short as they can be read.

Decimal prefixes throughout: 1 kB is 1,000 bytes, 1 M MACs is 1,000,000.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def bytes_text(count: int) -> str:
    """`1234567` -> `1.23 MB`."""
    return _scaled(count, ("B", "kB", "MB", "GB", "TB"))


def count_text(count: int) -> str:
    """`1234567` -> `1.23 M`; below a thousand as it is."""
    return _scaled(count, ("", "k", "M", "G", "T"))


def energy_text(picojoules: float) -> str:
    """`1234567.0` -> `1.23 µJ`."""
    for factor, unit in ((1e12, "J"), (1e9, "mJ"), (1e6, "µJ"), (1e3, "nJ")):
        if abs(picojoules) >= 0.9995 * factor:
            return f"{picojoules / factor:.3g} {unit}"
    return f"{picojoules:.3g} pJ"


def percent_text(fraction: float, digits: int = 1) -> str:
    """`0.224` -> `22.4 %`."""
    return f"{100 * fraction:.{digits}f} %"


def change_text(before: float, after: float) -> str:
    """By how much a figure fell or rose: `-22.4 %`, `+3.0 %`."""
    return "" if before == 0 else f"{100 * (after - before) / before:+.1f} %"


def seconds_text(seconds: float) -> str:
    """`75.2` -> `1:15`, `3.21` -> `3.2 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _scaled(count: int, units: tuple[str, ...]) -> str:
    value, unit = float(count), 0
    while abs(value) >= 999.5 and unit < len(units) - 1:
        value, unit = value / 1000, unit + 1
    digits = 0 if unit == 0 or abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2
    return f"{value:.{digits}f} {units[unit]}".strip()


def plural(count: int, thing: str) -> str:
    """`1 group`, `2 groups`."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def points_text(fraction: float, *, signed: bool = False) -> str:
    """A difference of two percentages: `0.487` -> `48.7 points`."""
    number = f"{100 * fraction:+.1f}" if signed else f"{100 * fraction:.1f}"
    return f"{number} point{'' if number.lstrip('+-') == '1.0' else 's'}"


def latency_check_text(check: Mapping[str, Any]) -> str:
    """What a forward was predicted to take, beside what it takes."""
    wanted, got = check["predicted_ms"], check["measured_ms"]
    before = f"{check['dense_predicted_ms']:.3g} and {check['dense_measured_ms']:.3g} ms"
    how = f"fastest of {check['runs']} forwards, batch {check['batch']}"
    off = f"{100 * check['error']:+.0f} %"
    return (
        f"latency: {wanted:.3g} ms predicted, {got:.3g} ms measured ({off}); "
        f"the unpruned model {before} ({how}, {check['machine']['name']})"
    )
