"""What a bench finds: a row for each model, runtime, dtype and batch size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

BENCH_VERSION = 1


@dataclass(frozen=True)
class Row:
    """Times of one forward of ``batch`` images, all T steps, in milliseconds.

    ``low_ms`` and ``high_ms`` are the quartiles of ``runs`` runs. ``peak_bytes``: what one forward
    adds to memory at its peak, None where that cannot be read. ``speedup``: the dense model's
    time over this one's in the same runtime, the median over rounds in which both ran, with the
    quartiles. ``failed``: why there are no times, in place of them.
    """

    model: str
    runtime: str
    dtype: str
    batch: int
    runs: int = 0
    median_ms: float | None = None
    low_ms: float | None = None
    high_ms: float | None = None
    peak_bytes: int | None = None
    speedup: float | None = None
    speedup_low: float | None = None
    speedup_high: float | None = None
    failed: str | None = None

    @property
    def images_per_s(self) -> float | None:
        """Throughput."""
        return None if not self.median_ms else 1e3 * self.batch / self.median_ms


@dataclass(frozen=True)
class Bench:
    """Rows, and what they were measured on.

    ``macs``: of one image, by model. ``about``: device, threads, versions, as JSON.
    """

    macs: Mapping[str, int]
    about: Mapping[str, Any]
    rows: tuple[Row, ...]

    def macs_ratio(self, model: str) -> float | None:
        """MACs of the dense model over those of ``model``: what speed could follow."""
        dense, own = self.macs.get("dense"), self.macs.get(model)
        return dense / own if dense and own else None

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it, with throughput and the share of the MACs ratio that was reached."""
        rows = []
        for row in self.rows:
            ratio = self.macs_ratio(row.model)
            reached = row.speedup / ratio if ratio and row.speedup else None
            rows.append(
                {**asdict(row), "images_per_s": row.images_per_s, "share_of_macs_ratio": reached}
            )
        return {
            "psvit_bench": BENCH_VERSION,
            "about": dict(self.about),
            "macs": dict(self.macs),
            "rows": rows,
        }
