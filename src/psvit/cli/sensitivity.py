"""`psvit sensitivity`: what pruning each group alone does to a model, as a file."""

from __future__ import annotations

import json as jsonlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from psvit.calibrate import calibrate
from psvit.capture import capture
from psvit.cli.console import note, reports, say, watch
from psvit.cli.inputs import (
    DataOptions,
    check_device,
    check_fit,
    example_input,
    open_model,
    recipe_of,
)
from psvit.cli.measuring import FIRING_IMAGES, note_skipped
from psvit.cli.options import (
    AllowPartial,
    BatchSize,
    Checkpoint,
    Data,
    Device,
    ImageColumn,
    Json,
    LabelColumn,
    Mean,
    MemoryLimit,
    Model,
    ModelArg,
    RecipeName,
    Seed,
    Size,
    SkipBad,
    Std,
    Workers,
    parse_bytes,
)
from psvit.cli.resume import resumable
from psvit.cost import Meter, observe, prepare
from psvit.data import Batches
from psvit.errors import ModelError, OptionError, OutputError, PlanError
from psvit.groups import find_groups
from psvit.records import Graph, Groups
from psvit.recover import IMAGES, calibration_images, default_saliency
from psvit.report.tables import figure_table
from psvit.saliency import check_saliency, obs_scores
from psvit.saliency import saliency as score
from psvit.sensitivity import Race, check_grid, curves_to_json, read_curves, write_curves
from psvit.sensitivity import sensitivity as analyse
from psvit.sensitivity.tables import block_table, layer_table, seen_text
from psvit.team import team_size

MOST = 1024
"""Images that a point may see if no number is given: as many as calibration sees."""


@reports
def sensitivity(
    model: Model,
    data: Data = None,
    out: Annotated[
        Path,
        typer.Option("-o", "--out", metavar="FILE", help="The file to write; a .csv beside it."),
    ] = Path("sensitivity.json"),
    grid: Annotated[
        str, typer.Option(metavar="R,R,...", help="Shares of each group's channels to remove.")
    ] = "0.1,0.25,0.5,0.75",
    n: Annotated[
        int | None,
        typer.Option(
            "--n",
            metavar="N",
            help="Images drawn at random that a point may see at most; 1,024 by default, or all "
            "there are.",
            show_default=False,
        ),
    ] = None,
    cost: Annotated[
        float,
        typer.Option(
            "--cost",
            metavar="SHARE",
            help="Forwards that the analysis may take, as a share of N for each point. Points that "
            "are clear see fewer images than those that are not.",
        ),
    ] = 0.05,
    full: Annotated[
        bool, typer.Option("--full", help="Measure every point on all N.", show_default=False)
    ] = False,
    memory_limit: MemoryLimit = None,
    saliency: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="How channels are ranked: l1, l2, bn, random, or on the images rate, taylor, obs. "
            "By default l1, but obs with --recover obs.",
        ),
    ] = None,
    recover: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="none, or obs: measure with weights refitted to the channels that stay.",
        ),
    ] = "none",
    no_labels: Annotated[
        bool, typer.Option("--no-labels", help="Measure no accuracy.", show_default=False)
    ] = False,
    checkpoint: Checkpoint = None,
    allow_partial: AllowPartial = False,
    model_arg: ModelArg = None,
    recipe: RecipeName = None,
    size: Size = None,
    mean: Mean = None,
    std: Std = None,
    skip_bad: SkipBad = False,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    batch_size: BatchSize = 64,
    workers: Workers = 0,
    device: Device = "cpu",
    seed: Seed = 0,
    force: Annotated[
        bool, typer.Option("--force", help="Replace FILE if psvit wrote it.", show_default=False)
    ] = False,
    json: Json = False,
) -> Mapping[str, Any] | None:
    """Measure what pruning each group alone does.

    Every group of MODEL is pruned by each share of the grid, and the outputs are compared with
    the whole model's on training images: few where that makes clear how a point ranks, more where
    it does not. FILE keeps the result, with the images and the interval of each point. An analysis
    that was cut short goes on where it was when the same command runs again: FILE.journal keeps
    what is done.
    """
    ratios = parse_grid(grid)
    check_refitting(recover)
    saliency = saliency or default_saliency(recover)
    check_saliency(saliency, data)
    if data is None:
        raise OptionError("nothing says what to analyse the model on: give --data DATA")
    if n is not None and n < 2:
        raise OptionError(f"--n is {n}, expected 2 images or more")
    race = None if full else Race(share=cost)
    limit_bytes = None if memory_limit is None else parse_bytes(memory_limit, "--memory-limit")
    journal = out.with_name(out.name + ".journal")
    _check_file(out, force=force or (team_size() > 1 and journal.exists()))
    place = check_device(device)
    loaded = open_model(model, model_arg, checkpoint, allow_partial=allow_partial, seed=seed)
    options = DataOptions(
        recipe=recipe_of(recipe, size, mean, std),
        skip_bad=skip_bad,
        batch_size=batch_size,
        workers=workers,
        seed=seed,
        image_column=image_column,
        label_column=label_column,
    ).with_recipe_of(loaded, model)
    train = options.open(data, "train", only=True, limit=n or MOST)
    n = _images_of(train, data, n)
    example = example_input(loaded, model, None, train)
    check_fit(loaded, example, [train])
    graph = capture(loaded.model, example)
    groups = find_groups(graph)
    dense = None
    if "obs" in (saliency, recover):
        seen = options.open(data, "train", only=True, limit=IMAGES, shuffle=True)
        with watch("looking at what every layer reads, images") as tick:
            images = calibration_images(seen)
            dense = calibrate(graph, groups, images, seed=seed, device=place, progress=tick)
    if saliency == "obs" and dense is not None:
        scores = obs_scores(dense)
    else:
        scores = score(graph, groups, saliency, seed, data=train, n=n, device=place)
    meter = _meter(graph, groups, train, n=n, seed=seed, device=place)
    with resumable(journal):
        with watch("pruning each group alone, images") as tick:
            curves = analyse(
                graph,
                groups,
                scores,
                train,
                grid=ratios,
                n=n,
                seed=seed,
                labels=not no_labels,
                journal=journal,
                progress=tick,
                device=place,
                settings={"data": data, "saliency": saliency},
                meter=meter,
                compensator=dense if recover == "obs" else None,
                race=race,
                memory_limit=limit_bytes,
            )
        table = write_curves(curves, out)
    note_skipped(train)
    say(figure_table(curves.dense))
    say(f"{seen_text(curves)}\n")
    say("KL divergence in nats an image, by share of channels removed; the last share's savings:\n")
    say(block_table(curves))
    say()
    say(layer_table(curves))
    for line in () if dense is None else dense.moments.notes:
        note(line)
    for line in curves.settings["left_out"]:
        note(f"not measured: {line}")
    say(f"\nwritten to  {out}  and  {table}")
    return jsonlib.loads(curves_to_json(curves)) if json else None


def _images_of(train: Batches, data: str, n: int | None) -> int:
    """How many images are drawn: as many as asked for, else MOST or all.

    Raises OptionError if there are fewer than asked for.
    """
    most = train.info.images
    if most is not None and n is not None and most < n:
        raise OptionError(
            f"--n is {n}, but {data} has {most} images to train on: ask for {most} or fewer"
        )
    return n or min(MOST, most or MOST)


def check_refitting(recover: str) -> None:
    """Raise OptionError for a recovery that an analysis cannot measure its points with."""
    if recover not in ("none", "obs"):
        raise OptionError(f"--recover {recover}: an analysis is made with none or obs")


def parse_grid(text: str) -> tuple[float, ...]:
    """`"0.1,0.5"` -> `(0.1, 0.5)`. Raises OptionError for anything but ratios in (0, 1)."""
    try:
        ratios = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise OptionError(
            f"--grid {text!r}: expected ratios between 0 and 1, such as 0.1,0.25,0.5,0.75"
        ) from error
    return check_grid(ratios)


def _meter(
    graph: Graph, groups: Groups, train: Batches, *, n: int, seed: int, device: torch.device
) -> Meter:
    """What prices removals: in SOPs and energy too, where firing can be measured."""
    try:
        with watch("firing rates, images") as tick:
            activity = observe(
                graph,
                train,
                groups,
                limit=min(n, FIRING_IMAGES),
                seed=seed,
                device=device,
                progress=tick,
            )
    except ModelError as error:
        note(f"SOPs and energy are not measured: {error}")
        return prepare(graph, groups)
    return prepare(graph, groups, activity)


def _check_file(out: Path, *, force: bool) -> None:
    """Say now, before the work, that ``out`` could not be written at its end."""
    if out.is_dir():
        raise OutputError(f"{out} is a folder: give the name of a file, such as {out}/s.json")
    if out.suffix == ".csv":
        raise OutputError(f"{out} would be the table beside the result: give a name in .json")
    parent = out.absolute().parent
    if not parent.is_dir():
        raise OutputError(f"cannot write {out}: {parent} is no folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write {out}: no permission to write in {parent}")
    if not out.exists():
        return
    if not force:
        raise OutputError(f"{out} exists: give another file, or --force to replace it")
    try:
        read_curves(out)
    except PlanError as error:
        raise OutputError(
            f"{out} is not a file that psvit sensitivity wrote, so it is not replaced"
        ) from error
