"""Images a second of the input pipeline, alone and beside a model.

    python benchmarks/input_pipeline.py --data parquet:DIR/imagenet-sample-1000.parquet
        [--recipe imagenet] [--workers 0 1 2] [--model spikformer] [--seconds 20]

The images of --data are read as they are, and once more from a folder in the layout of ImageNet
that is written to a temporary place. "Beside a model": decoding and the model's forwards (eval,
batch 32, as `psvit evaluate` runs them) share the machine. The pipeline keeps up where the last two
columns are equal. Writes benchmarks/results/input-pipeline-<date>.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import torch
from torch import nn

from psvit.data import RECIPES, open_data
from psvit.models import build
from psvit.neurons import reset_state

RESULTS = Path(os.path.relpath(Path(__file__).parent / "results"))


def as_folder(spec: str, root: Path) -> str:
    """The images of a Parquet file in sub-folders by class; returns the spec of the folder."""
    table = parquet.read_table(spec.removeprefix("parquet:"))
    column = "image" if "image" in table.column_names else "img"
    pairs = zip(table[column].to_pylist(), table["label"].to_pylist(), strict=True)
    for number, (image, label) in enumerate(pairs):
        folder = root / "val" / f"n{label:08d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:08d}.JPEG").write_bytes(image["bytes"])
    (root / "train").symlink_to(root / "val")
    return f"folder:{root}"


def rate(batches: Iterator[Any], model: nn.Module | None, seconds: float) -> float:
    """Images a second, from the second batch on (the first waits for workers to start)."""
    next(batches)
    count, start = 0, time.perf_counter()
    with torch.no_grad():
        for images, _ in batches:
            if model is not None:
                reset_state(model)
                model(images)
            count += len(images)
            if time.perf_counter() - start > seconds:
                break
    return count / (time.perf_counter() - start)


def endless(options: argparse.Namespace, spec: str, workers: int) -> Iterator[Any]:
    """Batches of the data over and over."""
    loader = open_data(
        spec,
        split="eval",
        recipe=RECIPES[options.recipe],
        batch_size=32,
        workers=workers,
        only=spec.startswith("parquet:"),
    )
    while True:
        yield from loader


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--data", required=True)
    parser.add_argument("--recipe", default="imagenet")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--model", default="spikformer")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    model = build(options.model)
    images, _ = next(endless(options, options.data, 0))
    alone = rate(iter([(images, None)] * 10_000), model, options.seconds)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for spec in (options.data, as_folder(options.data, Path(name))):
            for workers in options.workers:
                kind = spec.partition(":")[0]
                decoded = rate(endless(options, spec, workers), None, options.seconds)
                both = rate(endless(options, spec, workers), model, options.seconds)
                rows.append(f"| {kind} | {workers} | {decoded:.0f} | {both:.2f} | {alone:.2f} |")
                print(rows[-1], flush=True)
    where = f"parquet:{Path(options.data).name}"
    given = [where if a == options.data else a for a in sys.argv[1:]]
    command = shlex.join(["python", "benchmarks/input_pipeline.py", *given])
    lines = [
        f"# The input pipeline, {date.today()}",
        "",
        f"`{command}` on {platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}. "
        f"Images a second at the recipe {options.recipe}; the model: {options.model}, on the CPU.",
        "",
        "| data | workers | pipeline alone | pipeline and model | model alone |",
        "|---|---|---|---|---|",
        *rows,
    ]
    options.out.mkdir(exist_ok=True, parents=True)
    (options.out / f"input-pipeline-{date.today()}.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
