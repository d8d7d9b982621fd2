"""What `psvit bench` measured: times of the dense, the pruned and the masked model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psvit.report.html import escape, section, signs, table
from psvit.report.units import count_text, plural

TITLES = ("model", "runtime", "batch", "ms (quartiles)", "images/s", "speed-up", "of MACs ratio")


def speed_section(told: Mapping[str, Any]) -> str:
    """``told`` is bench.json; empty where nothing was timed."""
    if not told:
        return ""
    about, macs = told["about"], told["macs"]
    ratio = macs["dense"] / macs["pruned"]
    words = (
        f"Timed in turns on {about['device']}, {plural(about['threads'], 'thread')}, torch "
        f"{about['torch']}. Pruning leaves {count_text(macs['pruned'])} of "
        f"{count_text(macs['dense'])} MACs an image, a ratio of {ratio:.2f}. The masked model has "
        "as many weights set to zero, in tensors as large as before."
    )
    rows = [_cells(row) for row in told["rows"]]
    body = f"<p>{signs(escape(words))}</p>" + table(TITLES, rows, kind="speed")
    return section("speed", "Speed", body)


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    runtime = row["runtime"] if row["dtype"] == "float32" else f"{row['runtime']} {row['dtype']}"
    head = (escape(row["model"]), escape(runtime), str(row["batch"]))
    if row["median_ms"] is None:
        return (*head, escape(row["failed"]), "", "", "")
    faster = row["model"] != "dense" and row["speedup"] is not None
    times = f"{row['median_ms']:.2f} ({row['low_ms']:.2f}-{row['high_ms']:.2f})"
    return (
        *head,
        signs(times),
        f"{row['images_per_s']:,.1f}",
        f"{row['speedup']:.2f}" if faster else "",
        f"{row['share_of_macs_ratio']:.0%}" if faster and row["share_of_macs_ratio"] else "",
    )
