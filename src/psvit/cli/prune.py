"""`psvit prune`: a smaller model in a folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from psvit.artefacts import check_target
from psvit.cli.console import reports
from psvit.cli.inputs import (
    DataOptions,
    check_device,
    check_fit,
    data_settings,
    example_input,
    open_model,
    recipe_of,
)
from psvit.cli.options import (
    AllowPartial,
    BatchSize,
    Checkpoint,
    Data,
    Device,
    EvalData,
    Force,
    ImageColumn,
    InputShape,
    Json,
    LabelColumn,
    Limit,
    Mean,
    Model,
    ModelArg,
    Out,
    RecipeName,
    Seed,
    Size,
    SkipBad,
    Std,
    Workers,
    parse_budgets,
)
from psvit.cli.run import Choice, prune_and_save


@reports
def prune(
    model: Model,
    out: Out,
    save: Annotated[
        list[str],
        typer.Option(
            "--save",
            metavar="UNIT=SHARE",
            help="What to save of memory, params or macs: memory=22.4%; may be repeated.",
        ),
    ],
    data: Data = None,
    eval_data: EvalData = None,
    saliency: Annotated[
        str, typer.Option(metavar="NAME", help="How channels are ranked: l1, l2, bn, random.")
    ] = "l1",
    method: Annotated[
        str, typer.Option(metavar="NAME", help="How the budget is spread: uniform.")
    ] = "uniform",
    align: Annotated[int, typer.Option(metavar="N", help="Keep widths at multiples of N.")] = 1,
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
    limit: Limit = None,
    batch_size: BatchSize = 64,
    workers: Workers = 0,
    device: Device = "cpu",
    seed: Seed = 0,
    force: Force = False,
    json: Json = False,
) -> Mapping[str, Any] | None:
    """Write a smaller model to a folder.

    Channels of MODEL are removed, the least important first, until it saves what --save asks.
    The result is measured beside the original and written to OUT, whole or not at all.
    """
    check_target(out, force=force)
    choice = Choice(parse_budgets(save), saliency, method, align, seed)
    place = check_device(device)
    loaded = open_model(model, model_arg, checkpoint, allow_partial=allow_partial, seed=seed)
    options = DataOptions(
        recipe=recipe_of(recipe, size, mean, std),
        skip_bad=skip_bad,
        limit=limit,
        batch_size=batch_size,
        workers=workers,
        seed=seed,
        image_column=image_column,
        label_column=label_column,
    ).with_recipe_of(loaded, model)
    only = eval_data is not None
    train = None if data is None else options.open(data, "train", only=only)
    source = eval_data or data
    evaluation = None if source is None else options.open(source, "eval", only=only, limit=limit)
    example = example_input(loaded, model, input_shape, train or evaluation)
    check_fit(loaded, example, [batches for batches in (train, evaluation) if batches is not None])
    result = prune_and_save(
        loaded,
        example,
        choice,
        out,
        force=force,
        eval_data=evaluation,
        device=place,
        settings={"model": model, **data_settings(options, data, eval_data)},
    )
    return result if json else None
