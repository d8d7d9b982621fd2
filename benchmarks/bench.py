"""`psvit prune` and `psvit bench` as people run them, on models that the package holds.

    python -m benchmarks.bench [--models spikformer-digits ...] [--save memory=50%] [--align 8]

Each model is pruned uniformly by L1 into a temporary folder, and timed there beside the original
and one with as many weights masked, by `psvit bench OUT` with its own settings unless
--batch-size, --runtimes or --seconds change them. Writes benchmarks/results/bench-<date>.md, and
what `psvit bench --json` prints of each model to .json.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
MODELS = ("spikformer-digits", "spikformer-cifar10", "sdt-cifar10")


def examine(model: str, options: argparse.Namespace) -> dict[str, Any]:
    """What `psvit bench` finds of a pruned model."""
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "OUT")
        save = ["--save", options.save, "--align", str(options.align), "--seed", str(options.seed)]
        psvit("prune", model, *save, "-o", out)
        given = {"--batch-size": options.batch_size, "--runtimes": options.runtimes}
        words = [word for pair in given.items() if pair[1] for word in pair]
        found = psvit("bench", out, *words, "--seconds", str(options.seconds), "--json")
    result: dict[str, Any] = json.loads(found)
    return result


def psvit(*words: str) -> str:
    """What a command prints on stdout. Raises SystemExit if it fails."""
    command = [sys.executable, "-m", "psvit", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"psvit {shlex.join(words)} ended with exit code {done.returncode}")
    return done.stdout


def table(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Markdown: a row for each model, runtime, batch size and kind."""
    lines = [
        "| model | runtime | batch | kind | median ms (quartiles) | speed-up | share of the ratio "
        "of MACs |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, result in found.items():
        for row in result["rows"]:
            head = f"| {name} | {row['runtime']} | {row['batch']} | {row['model']} "
            if row["failed"]:
                lines.append(f"{head}| {row['failed']} | | |")
                continue
            times = f"{row['median_ms']:.2f} ({row['low_ms']:.2f}-{row['high_ms']:.2f})"
            own = row["model"] == "pruned"
            speedup = f"{row['speedup']:.2f}" if row["model"] != "dense" else ""
            share = f"{row['share_of_macs_ratio']:.0%}" if own else ""
            lines.append(f"{head}| {times} | {speedup} | {share} |")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--save", default="memory=50%")
    parser.add_argument("--align", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runtimes", help="as of `psvit bench`")
    parser.add_argument("--batch-size", help="as of `psvit bench`")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    found: dict[str, dict[str, Any]] = {}
    for model in options.models:
        found[model] = examine(model, options)
        write(options, found)
    print("\n".join(table(found)))


def write(options: argparse.Namespace, found: Mapping[str, dict[str, Any]]) -> None:
    """After each model, so that what is cut short has left something."""
    about = next(iter(found.values()))["about"]
    ratios = ", ".join(
        f"{n} {r['macs']['dense'] / r['macs']['pruned']:.2f}" for n, r in found.items()
    )
    lines = [
        f"# psvit bench, {date.today()}",
        "",
        f"`python -m benchmarks.bench {shlex.join(sys.argv[1:])}`: `psvit prune MODEL --save "
        f"{options.save} --align {options.align} --seed {options.seed}`, then `psvit bench`, on "
        f"{about['device']}, {about['threads']} thread(s), torch {about['torch']}. Ratios of MACs: "
        f"{ratios}.",
        "",
        *table(found),
    ]  # fmt: skip
    options.out.mkdir(parents=True, exist_ok=True)
    stem = options.out / f"bench-{date.today()}"
    stem.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    stem.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
