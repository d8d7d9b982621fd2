"""What methods and recoveries keep of a trained model's accuracy, on all test images, in pairs.

    python -m benchmarks.accuracy run MODEL --data parquet:TRAIN --eval-data parquet:TEST \
        --recipe cifar10 [--device cuda] -o results.jsonl
    python -m benchmarks.accuracy table results.jsonl [more.jsonl ... earlier-table.json]

`run` appends a line a result, and goes on where it was cut short; several may run at once, each
into a file of its own. Rankings, analyses and recoveries see training images alone, without labels
(but for `finetune`, which distils from the unpruned model, without labels too); the test images
are only what results are read off. With `--plans FILE ...` a plan that an earlier result has (its
channels by group, as a table's .json keeps them) is not searched for again. `table` writes
benchmarks/results/accuracy-DATE.md, .json, .svg.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from benchmarks.accuracy.run import run
from benchmarks.accuracy.table import write
from benchmarks.tuning import setting
from psvit.memory import keep_freed_memory
from psvit.places import command_elsewhere

LEVELS = "22.4%,50%,40%,26.7%,10%,65%,80%"


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.accuracy", description=__doc__)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("run", allow_abbrev=False)
    one.add_argument("model")
    one.add_argument("--data", required=True)
    one.add_argument("--eval-data")
    one.add_argument("--recipe")
    one.add_argument("--checkpoint", type=Path)
    one.add_argument("--methods", type=_names, default="uniform,psvit,primesvt,optimal")
    one.add_argument("--saliency", default="l1", help="l1, or obs for what a recovery refits")
    one.add_argument("--recover", type=_names, default="none,bn")
    one.add_argument("--levels", type=_names, default=LEVELS)
    one.add_argument("--device", default="cpu")
    one.add_argument("--batch", type=int, default=500)
    one.add_argument("--limit", type=int, help="of the test images, drawn at random")
    one.add_argument("--workers", type=int, default=0)
    one.add_argument("--threads", type=int, default=1)
    one.add_argument("--bf16", action="store_true", help="fine-tune in bfloat16 on a CPU too")
    one.add_argument(
        "--tuning", type=setting, nargs="+", default=[], help="of fine-tuning, such as lr=3e-4"
    )
    one.add_argument("--seed", type=int, default=0)
    one.add_argument(
        "--plans", type=Path, nargs="+", default=[], help="earlier results whose plans are used"
    )
    one.add_argument("-o", "--out", type=Path, required=True)
    one.set_defaults(do=_run)
    table = commands.add_parser("table", allow_abbrev=False)
    table.add_argument("files", type=Path, nargs="+")
    table.add_argument("--note", default="", help="a paragraph to put above the tables")
    table.set_defaults(do=lambda options: write(options.files, options.note))
    options = parser.parse_args()
    options.command = command_elsewhere(
        "python -m benchmarks.accuracy", sys.argv[1:], {"-o": "FILE", "--out": "FILE"}
    )
    options.do(options)


def _run(options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    run(options)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


if __name__ == "__main__":
    main()
