"""Whether `optimal` loses no more accuracy than its rivals, at every saving.

    python benchmarks/methods.py [MODEL] [--data digits] [--checkpoint FILE] [further options]

A `psvit compare` of uniform-l1, psvit, primesvt and optimal at 10, 22.4, 26.7, 40 and 50 % of the
memory, paired on all evaluation images; further options go to it. Writes
benchmarks/results/methods-MODEL-<date>.md, .json and .svg. A run that was cut short goes on.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import shutil
import sys
from datetime import date
from pathlib import Path

import torch

from psvit.cli.app import main as psvit
from psvit.compare.files import COMPARISON, PICTURE, read_comparison
from psvit.compare.levels import budget_text
from psvit.compare.table import by_budget
from psvit.compare.verdicts import Comparison, Difference, difference

RESULTS = Path(os.path.relpath(Path(__file__).parent / "results"))
METHODS = "uniform-l1,psvit,primesvt,optimal"
LEVELS = "10%,22.4%,26.7%,40%,50%"


def points(lost: Difference) -> str:
    """`1.2 (0.3 to 2.1)`."""
    return f"{100 * lost.drop:.2f} ({100 * lost.low:.2f} to {100 * lost.high:.2f})"


def table(comparison: Comparison) -> str:
    """Points lost by saving and method; and how much more than optimal each rival loses."""
    names = list(dict.fromkeys(cell.method for cell in comparison.cells))
    lines = [f"| saved | {' | '.join(names)} |", "|---" * (1 + len(names)) + "|"]
    more = ["| saved | rival | points that it loses more than optimal | optimal loses no more |",
            "|---|---|---|---|"]  # fmt: skip
    for budget, found in by_budget(comparison):
        lost = [v.lost if v.lost_to_control is None else v.lost_to_control for v in found]
        lines.append(f"| {budget_text(budget)} | {' | '.join(points(one) for one in lost)} |")
        best = next((v.cell for v in found if v.cell.method == "optimal"), None)
        for v in found:
            if best is not None and v.cell is not best:
                gap = difference(best, v.cell)
                said = "yes" if gap.drop >= 0 else "within chance" if gap.high >= 0 else "no"
                more.append(f"| {budget_text(budget)} | {v.cell.method} | {points(gap)} | {said} |")
    return "\n".join([*lines, "", *more])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("model", nargs="?", default="spikformer-digits")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--levels", default=LEVELS)
    parser.add_argument("--recover", default="none")
    options, further = parser.parse_known_args()
    name = options.checkpoint.parent.name if options.checkpoint else options.model
    also = "" if options.recover == "none" else f"-{options.recover}"
    stem = RESULTS / f"methods-{name.replace('/', '-')}{also}-{date.today()}"
    out = stem.with_suffix(".partial")
    RESULTS.mkdir(exist_ok=True)
    checkpoint = ["--checkpoint", str(options.checkpoint)] if options.checkpoint else []
    code = psvit(
        ["compare", options.model, "--data", options.data, *checkpoint, "--methods",
         options.methods, "--save", f"memory={options.levels}", "--recover", options.recover,
         "-o", str(out), "--force", *further]
    )  # fmt: skip
    if code:
        sys.exit(code)
    comparison = read_comparison(out)
    recovered = also.replace("-", ", recover ")
    head = (
        f"# Methods at the same savings, {name}{recovered}, {date.today()}\n\n"
        f"`{shlex.join(['python', *sys.argv])}` on {platform.machine()}, {os.cpu_count()} cores, "
        f"torch {torch.__version__}. Dense: {100 * (comparison.dense.figures.accuracy or 0):.2f} % "
        f"of {comparison.dense.figures.n:,} images. Points lost, paired, with 95 % intervals.\n\n"
    )
    stem.with_suffix(".md").write_text(f"{head}{table(comparison)}\n")
    shutil.copyfile(out / COMPARISON, stem.with_suffix(".json"))
    shutil.copyfile(out / PICTURE, stem.with_suffix(".svg"))
    shutil.rmtree(out)


if __name__ == "__main__":
    main()
