"""What `python -m benchmarks.figures` runs: the table of its parts."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path


@dataclass(frozen=True)
class Part:
    """A benchmark: the words after ``python``, as a shell has them; ``quick`` with --quick.

    It runs where the folders ``results``, and ``data`` and ``clones`` if they are given, are, and
    is left out if a path in them that it names is not there. TODAY stands for the date.
    ``seeds``: of what is random in it.
    """

    name: str
    command: str
    quick: str
    seeds: str

    def words(self, quick: bool) -> list[str]:
        """The command, for a process."""
        return shlex.split(
            (self.quick if quick else self.command).replace("TODAY", str(date.today()))
        )

    def missing(self, places: Mapping[str, Path], quick: bool) -> str:
        """What it needs and has not got, in words; empty if it has everything."""
        for word in self.words(quick):
            place, _, rest = word.rpartition(":")[2].partition("/")
            if place not in ("data", "clones"):
                continue
            if place not in places:
                return f"--{place}" + (f" with {rest} in it" if rest else "")
            if rest and not any(places[place].glob(rest)):
                return f"{rest} in --{place}"
        return ""


def _part(name: str, module: str, arguments: str, quick: str, seeds: str) -> Part:
    """``python -m benchmarks.MODULE ARGUMENTS --out results``."""
    commands = (f"-m benchmarks.{module} {text} --out results" for text in (arguments, quick))
    return Part(name, *commands, seeds)


_TRAIN = "--data parquet:data/cifar10-train.parquet"
_IMAGES = "--data parquet:data/imagenet-sample-1000.parquet"
_SMALL = "--models spikformer-digits spikformer-cifar10 sdt-cifar10"
_LARGE = "--models spikformer-8-512 meta-spikeformer-31m"
_PRUNED = "--save macs=0.4 memory=0.5 --align 8"
_PAGES = "--page results/repositories-TODAY.md --figures results/repositories-TODAY.json"

PARTS = (
    _part("analysis, digits", "analysis", "", "--n 128 --shares 0.05", "0"),
    _part(
        "analysis, CIFAR-10",
        "analysis",
        f"--model sdt-cifar10 {_TRAIN}",
        f"--model sdt-cifar10 {_TRAIN} --n 16 --shares 0.1 --grid 0.5",
        "0",
    ),
    _part(
        "latency",
        "latency",
        "spikformer-cifar10 sdt-cifar10 meta-spikeformer-15m",
        "spikformer-digits --plans 2",
        "0, of the plans",
    ),
    _part("scaling, digits", "scaling", "", "--n 128 --runs 1 --jobs race evaluation", "0"),
    _part(
        "scaling, CIFAR-10",
        "scaling",
        f"--model sdt-cifar10 {_TRAIN} --n 256",
        f"--model sdt-cifar10 {_TRAIN} --n 64 --runs 1 --jobs evaluation",
        "0",
    ),
    _part(
        "speed, small models",
        "speed",
        f"{_SMALL} --batches 1 32 {_PRUNED} --masked --profile",
        f"--models spikformer-digits --batches 8 {_PRUNED} --profile --quick "
        "--runtimes eager faster",
        "0",
    ),
    _part(
        "speed at 224x224",
        "speed",
        f"{_LARGE} --batches 1 8 {_PRUNED} --profile",
        "--models spikformer-8-512 --batches 1 --runtimes faster --save memory=0.5 --quick",
        "0",
    ),
    _part(
        "psvit bench",
        "bench",
        _SMALL,
        "--models spikformer-digits --batch-size 8 --runtimes eager,faster --seconds 1",
        "0",
    ),
    _part("engine at 224x224", "engine", "", "--models spikformer-8-512", "0"),
    _part(
        "export",
        "export",
        "--data 'parquet:data/cifar10-*.parquet' --clones clones --work work",
        "--only spikformer-digits --files onnx openvino --n 64 --work work",
        "0",
    ),
    _part(
        "input pipeline",
        "input_pipeline",
        _IMAGES,
        f"{_IMAGES} --workers 0 --seconds 2",
        "0, of the order",
    ),
    _part(
        "allocation",
        "allocation",
        "",
        "--groups 40 --seeds 1 --budgets 0.224 0.4",
        "0 to 4, of the instances",
    ),
    Part(
        "repositories",
        f"-m benchmarks.repositories --clones clones {_PAGES}",
        f"-m benchmarks.repositories --clones clones --only QKFormer --every 12 {_PAGES}",
        "0",
    ),
)
