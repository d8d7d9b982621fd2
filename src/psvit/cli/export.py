"""`psvit export`: a model in the format of another runtime, checked against the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from psvit.cli.console import note, reports, say, stages
from psvit.cli.inputs import (
    DataOptions,
    check_alone,
    data_settings,
    example_input,
    open_model,
    recipe_of,
)
from psvit.cli.options import (
    AllowPartial,
    Checkpoint,
    Data,
    ImageColumn,
    InputShape,
    Json,
    LabelColumn,
    Mean,
    Model,
    ModelArg,
    RecipeName,
    Seed,
    Size,
    SkipBad,
    Std,
)
from psvit.errors import DataError, OptionError
from psvit.export import NAMES, WEIGHTS, Comparison, Export, check_choice, check_file, json_path
from psvit.export import export as write_export
from psvit.models import MODELS
from psvit.models.load import LoadedModel
from psvit.report.units import bytes_text, plural

BATCH = 50
"""Images that a file is compared on at a time."""


@reports
def export(
    model: Model,
    out: Annotated[
        Path,
        typer.Option("-o", "--out", metavar="FILE", help="The file to write.", show_default=False),
    ],
    format: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help=f"One of {', '.join(NAMES)}.")
    ] = "onnx",
    weights: Annotated[
        str,
        typer.Option(metavar="KIND", help=f"One of {', '.join(WEIGHTS)}; int8 with onnx alone."),
    ] = "float32",
    data: Data = None,
    n: Annotated[
        int, typer.Option("--n", metavar="N", help="Images that file and model are compared on.")
    ] = 1000,
    checkpoint: Checkpoint = None,
    allow_partial: AllowPartial = False,
    model_arg: ModelArg = None,
    input_shape: InputShape = None,
    recipe: RecipeName = None,
    size: Size = None,
    mean: Mean = None,
    std: Std = None,
    skip_bad: SkipBad = False,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    seed: Seed = 0,
    force: Annotated[
        bool, typer.Option("--force", help="Replace FILE.", show_default=False)
    ] = False,
    json: Json = False,
) -> Mapping[str, Any] | None:
    """Write a model for another runtime, and compare the two.

    The file takes images, any number at a time, and gives logits. FILE.json tells how they compare
    with the model's: on test images of --data, then on training images, up to --n; a folder that
    psvit wrote remembers its data. Without data, on random images.
    """
    check_alone("export", "start one")
    check_file(out, force=force)
    check_choice(format, weights, out)
    if n < 1:
        raise OptionError(f"--n is {n}, expected 1 image or more")
    loaded = open_model(model, model_arg, checkpoint, allow_partial=allow_partial, seed=seed)
    options = DataOptions(
        recipe=recipe_of(recipe, size, mean, std),
        skip_bad=skip_bad,
        batch_size=BATCH,
        seed=seed,
        image_column=image_column,
        label_column=label_column,
    ).with_recipe_of(loaded, model)
    train, test = _sources(loaded, model, data)
    seen = test or train
    tests = None if seen is None else options.open(seen, "eval", only=test is not None)
    example = example_input(loaded, model, input_shape, tests)
    if tests is None:
        note("compared on random images: give --data DATA for real ones")
    with stages() as stage:
        made = write_export(
            loaded.model,
            example,
            out,
            format,
            weights=weights,
            data=None if tests is None else chain(tests, _without_labels(train, options)),
            n=n,
            force=force,
            settings=data_settings(options, train, test),
            say=stage,
        )
    for line in lines(made):
        say(line)
    return made.to_dict() if json else None


def lines(made: Export) -> Iterator[str]:
    """What there is to say of an export, for people."""
    yield f"written to  {made.path}  ({bytes_text(made.bytes)}), {json_path(made.path).name}"
    found = made.comparison
    if found is None:
        yield from _part_lines(made)
        return
    whole = made.details.get("bytes_float32")
    if whole:
        yield f"size        {1 - made.bytes / whole:.1%} less than with float32 weights"
    yield f"same top-1  {found.same_top1} of {plural(found.n, 'image')}"
    if made.weights == "float32":
        differing = (
            f"{found.differing} of {found.n} differ by more than {found.tolerance:g}, by "
            f"{found.largest_differing:.2g} at most{_why_differing(found)}; the others "
            if found.differing
            else ""
        )
        yield f"logits      {differing}within {found.largest:.1e}"
    else:
        yield f"logits      differ by {max(found.largest, found.largest_differing):.2g} at most"
    if found.labelled:
        yield (
            f"accuracy    {found.correct_file / found.labelled:.2%}, of the model "
            f"{found.correct_model / found.labelled:.2%}, on the {found.labelled} test "
            "images of them"
        )


def _why_differing(found: Comparison) -> str:
    """What was found out about images whose logits differ: see ``psvit.export.flips``."""
    if not found.followed:
        return ""
    looked = "" if found.followed == found.differing else f" of the {found.followed} looked into"
    flip = "a spike flipped at its threshold"
    if found.flipped == found.followed:
        return f": in all{looked} {flip}"
    other = found.followed - found.flipped
    return f": in {found.flipped}{looked} {flip}, IN {other} SOMETHING ELSE IS DIFFERENT"


def _part_lines(made: Export) -> Iterator[str]:
    """The parts that were written, each beside the model, and what is in none."""
    for part in made.parts:
        sizes = "x".join(map(str, part.output_shape))
        if part.differing:
            said = (
                f"{part.differing_values:,} of {part.values:,} values differ, in "
                f"{part.differing} of {part.n} images"
            )
        else:
            said = f"all values {f'within {part.largest:.1e}' if part.largest else 'equal'}"
        if part.spikes is not None:
            said += f", {part.spikes:,} spikes"
        yield f"part        {part.name}: {plural(len(part.layers), 'layer')} to {sizes}; {said}"
    counts = Counter((left.operation, left.reason) for left in made.left)
    places = {(left.operation, left.reason): left.layer for left in reversed(made.left)}
    for (operation, reason), count in counts.items():
        where = places[operation, reason] + (f" and {count - 1} more" if count > 1 else "")
        yield f"left out    {operation} {_where(where)}: {reason}"


def _where(place: str) -> str:
    return place if place.startswith(("after ", "at ")) else f"of {place}"


def _sources(loaded: LoadedModel, spec: str, data: str | None) -> tuple[str | None, str | None]:
    """Where training and test images come from: as told, or as the folder or the model knows."""
    if data is not None:
        return data, None
    settings = (loaded.metrics or {}).get("settings", {})
    known = settings.get("data")
    if known is None and spec in MODELS and MODELS[spec].data == "digits":
        known = "digits"
    return known, settings.get("eval_data")


def _without_labels(train: str | None, options: DataOptions) -> Iterator[torch.Tensor]:
    """Training images: accuracy is for test images alone."""
    if train is None:
        return
    try:
        batches = options.open(train, "train", only=False)
    except DataError:  # a data set may have a test part alone
        return
    for images, *_ in batches:
        yield images
