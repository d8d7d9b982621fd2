"""The options that several subcommands share, and how their text is read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from psvit.allocate.budgets import SUFFIXES, UNITS
from psvit.errors import OptionError

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A name of `psvit models`, package.module:factory, path/to/file.py:factory, or a "
        "folder that psvit wrote.",
        show_default=False,
    ),
]
ModelArg = Annotated[
    list[str] | None,
    typer.Option(
        "--model-arg",
        metavar="KEY=VALUE",
        help="An argument of the factory, a Python literal; may be repeated.",
    ),
]
Checkpoint = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Weights: safetensors, or a torch file, read without running code."
    ),
]
AllowPartial = Annotated[
    bool, typer.Option("--allow-partial", help="Load the weights that fit, and list the rest.")
]
InputShape = Annotated[
    str | None,
    typer.Option(
        "--input-shape",
        metavar="C,H,W",
        help="Shape of one input, where the data does not say it.",
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="DATA",
        help="digits, folder:PATH, parquet:GLOB, hub:NAME, webdataset:PATTERN, events:PATH, or "
        "module:factory giving a DataLoader.",
    ),
]
EvalData = Annotated[
    str | None,
    typer.Option(
        "--eval-data",
        metavar="DATA",
        help="What accuracy is measured on, if not the test part of --data.",
    ),
]
RecipeName = Annotated[
    str | None,
    typer.Option("--recipe", metavar="NAME", help="Preprocessing: cifar10, imagenet, sdt, ..."),
]
Size = Annotated[int | None, typer.Option("--size", metavar="PIXELS", help="Side of an image.")]
Mean = Annotated[
    str | None,
    typer.Option("--mean", metavar="M,M,M", help="Subtracted from values in [0, 1], per channel."),
]
Std = Annotated[
    str | None, typer.Option("--std", metavar="S,S,S", help="Divides what is left, per channel.")
]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out images that cannot be decoded.")
]
ImageColumn = Annotated[
    str | None,
    typer.Option("--image-column", metavar="NAME", help="Of Parquet files, hub:, webdataset:."),
]
LabelColumn = Annotated[
    str | None,
    typer.Option("--label-column", metavar="NAME", help="Of Parquet files, hub:, webdataset:."),
]
Limit = Annotated[
    int | None,
    typer.Option("--limit", metavar="N", help="Measure accuracy on N images drawn at random."),
]
BatchSize = Annotated[int, typer.Option("--batch-size", metavar="N", help="Images a forward.")]
Workers = Annotated[
    int, typer.Option("--workers", metavar="N", help="Processes that read the data.")
]
Device = Annotated[
    str, typer.Option("--device", metavar="DEVICE", help="Where models run: cpu, cuda, cuda:1.")
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Fixes every random choice.")]
Force = Annotated[
    bool, typer.Option("--force", help="Replace OUT if psvit wrote it.", show_default=False)
]
Json = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON on stdout.", show_default=False)
]
Out = Annotated[
    Path,
    typer.Option("-o", "--out", metavar="OUT", help="The folder to write.", show_default=False),
]

MaxDrop = Annotated[
    float | None,
    typer.Option(
        "--max-drop",
        metavar="POINTS",
        help="Points of accuracy that may be lost; without --save, the smallest model within it.",
        show_default=False,
    ),
]
MinAccuracy = Annotated[
    str | None,
    typer.Option(
        "--min-accuracy",
        metavar="SHARE",
        help="Accuracy that has to stay, such as 70%; instead of --max-drop.",
    ),
]
Sensitivity = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="What `psvit sensitivity` wrote; else the analysis is made on --data.",
    ),
]
Images = Annotated[
    int,
    typer.Option("--n", metavar="N", help="Training images that an analysis is made on."),
]
MemoryLimit = Annotated[
    str | None,
    typer.Option(
        "--memory-limit",
        metavar="BYTES",
        help="What forwards and what is kept of them may take beside the model and the images, "
        "such as 2GB: batches are cut, and the way to a layer is run again where it finds no room.",
    ),
]

_BUDGET = re.compile(r"(?P<unit>[^=]*)=(?P<number>[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?)(?P<tail>.*)")


def parse_budgets(texts: Sequence[str]) -> dict[str, float | str]:
    """What to save: `["memory=22.4%", "params=300k"]` -> `{"memory": 0.224, "params": "300k"}`.

    Raises OptionError for anything but a known unit and a share between 0 and 1 or an amount.
    """
    budgets: dict[str, float | str] = {}
    for text in texts:
        unit, budget = _parse_budget(text)
        if unit in budgets:
            raise OptionError(f"--save {unit} is given twice")
        budgets[unit] = budget
    return budgets


def parse_levels(texts: Sequence[str]) -> dict[str, list[float | str]]:
    """Levels of saving: `["memory=10%,22.4%"]` -> `{"memory": [0.1, 0.224]}`.

    Raises OptionError as `parse_budgets` does.
    """
    levels: dict[str, list[float | str]] = {}
    for text in texts:
        head, equals, tail = text.partition("=")
        found = [_parse_budget(f"{head}{equals}{part}") for part in tail.split(",")]
        unit = found[0][0]
        if unit in levels:
            raise OptionError(f"--save {unit} is given twice: list its levels, {unit}=10%,20%")
        levels[unit] = [budget for _, budget in found]
    return levels


def _parse_budget(text: str) -> tuple[str, float | str]:
    match = _BUDGET.fullmatch(text.strip())
    if match is None:
        raise OptionError(
            f"--save {text!r}: expected UNIT=SHARE such as memory=22.4% or memory=0.224, "
            f"with UNIT one of {', '.join(UNITS)}"
        )
    unit, tail = match["unit"].strip(), match["tail"].strip()
    if unit not in UNITS:
        raise OptionError(f"--save {text!r}: no unit {unit!r}, expected one of {', '.join(UNITS)}")
    value = float(match["number"])
    if tail in SUFFIXES[unit]:
        if value <= 0:
            raise OptionError(f"--save {text!r}: expected an amount above 0")
        return unit, match["number"] + tail
    if tail not in ("", "%"):
        raise OptionError(
            f"--save {text!r}: {tail!r} is no unit of {unit}, expected a share of what there is, "
            f"22.4% or 0.224, or an amount in {', '.join(SUFFIXES[unit])}"
        )
    fraction = value / 100 if tail else value
    if not 0 < fraction < 1:
        hint = f"; write {match['number']}% for per cent" if not tail and 1 < value < 100 else ""
        raise OptionError(
            f"--save {text!r}: expected a share above 0% and below 100% (0 to 1){hint}"
        )
    return unit, fraction


def parse_bytes(text: str, option: str) -> int:
    """`"2GB"` -> 2000000000. Raises OptionError for anything but an amount of memory."""
    match = re.fullmatch(r"\s*(?P<number>\d+\.?\d*|\.\d+)\s*(?P<tail>[A-Za-z]+)\s*", text)
    if match is None or match["tail"] not in SUFFIXES["memory"] or float(match["number"]) <= 0:
        raise OptionError(
            f"{option} {text!r}: expected an amount of memory such as 2GB or 512MiB (units: "
            f"{', '.join(SUFFIXES['memory'])})"
        )
    return int(float(match["number"]) * SUFFIXES["memory"][match["tail"]])


def parse_max_drop(points: float | None) -> float | None:
    """Points of accuracy as a fraction. Raises OptionError outside 0 to 100."""
    if points is None:
        return None
    if not 0 <= points <= 100:
        raise OptionError(f"--max-drop is {points:g}, expected points of accuracy from 0 to 100")
    return points / 100


def parse_accuracy(text: str | None) -> float | None:
    """`"70%"` or `"0.7"` -> 0.7. Raises OptionError for anything but a share from 0 to 1."""
    if text is None:
        return None
    bare = text.strip()
    try:
        value = float(bare.removesuffix("%")) / (100 if bare.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        hint = f"; write {bare}% for per cent" if 1 < value <= 100 else ""
        raise OptionError(f"--min-accuracy {text!r}: expected a share such as 70% or 0.7{hint}")
    return value


def parse_shape(text: str) -> tuple[int, ...]:
    """`"3,32,32"` -> `(3, 32, 32)`. Raises OptionError for anything but positive sizes."""
    try:
        shape = tuple(int(part) for part in re.split("[,x]", text))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise OptionError(
            f"--input-shape {text!r}: expected the sizes of one input, such as 3,32,32"
        )
    return shape
