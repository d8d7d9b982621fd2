"""`psvit prune`: a smaller model in a folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from psvit.allocate import check_choice
from psvit.artefacts import check_target
from psvit.cli.console import reports
from psvit.cli.inputs import (
    DataOptions,
    check_alone,
    check_device,
    check_fit,
    data_settings,
    example_input,
    given_curves,
    open_model,
    recipe_of,
)
from psvit.cli.measuring import FIRING_IMAGES
from psvit.cli.options import (
    AllowPartial,
    BatchSize,
    Checkpoint,
    Data,
    Device,
    EvalData,
    Force,
    ImageColumn,
    Images,
    InputShape,
    Json,
    LabelColumn,
    Limit,
    MaxDrop,
    Mean,
    MinAccuracy,
    Model,
    ModelArg,
    Out,
    RecipeName,
    Seed,
    Sensitivity,
    Size,
    SkipBad,
    Std,
    Workers,
    parse_accuracy,
    parse_budgets,
    parse_max_drop,
)
from psvit.cli.run import Choice, prune_and_save
from psvit.cli.teacher import weights_of
from psvit.data import Batches, draw_record
from psvit.errors import OptionError
from psvit.finetune import Tuning
from psvit.guidance import images_needed
from psvit.records import Curves
from psvit.recover import IMAGES, TRAINED, check_recovery
from psvit.saliency import FROM_DATA


@reports
def prune(
    model: Model,
    out: Out,
    save: Annotated[
        list[str] | None,
        typer.Option(
            "--save",
            metavar="UNIT=AMOUNT",
            help="What to save of memory, params, macs, sops, energy or latency, a share or an "
            "amount: memory=22.4%, params=300k, latency=30%; may be repeated.",
        ),
    ] = None,
    max_drop: MaxDrop = None,
    min_accuracy: MinAccuracy = None,
    data: Data = None,
    eval_data: EvalData = None,
    saliency: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="How channels are ranked: l1, l2, bn, random, or on --data rate, taylor, obs. By "
            "default l1, but l2 for method primesvt, obs with --recover obs, lsq or auto, and as "
            "in FILE with --sensitivity.",
        ),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="How the budget is spread: uniform, psvit, primesvt, optimal."
        ),
    ] = "uniform",
    sensitivity: Sensitivity = None,
    n: Images = 256,
    recover: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="How accuracy is brought back, on training images (--data) without labels: none; "
            "bn, batch-norm statistics taken again; obs, weights refitted to the channels that "
            "stay; lsq, layer by layer; auto, of these what helps; finetune, auto and then "
            "training (`psvit finetune` has more settings).",
        ),
    ] = "none",
    epochs: Annotated[
        float,
        typer.Option(metavar="E", help="Passes over the training images with --recover finetune."),
    ] = 1.0,
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

    Channels of MODEL are removed, the least important first, until it saves what --save asks, or
    as long as --max-drop allows. The result is measured beside the original and written to OUT,
    whole or not at all. All methods but uniform, and bounds on accuracy, take an analysis of
    training images: --data, or --sensitivity FILE.
    """
    check_alone("prune", "share `psvit sensitivity`, and give one process its file")
    check_target(out, force=force)
    curves = given_curves(sensitivity, data)
    choice = Choice(
        save=parse_budgets(save or []),
        saliency=saliency_of(saliency, curves),
        method=method,
        align=align,
        seed=seed,
        max_drop=parse_max_drop(max_drop),
        min_accuracy=parse_accuracy(min_accuracy),
        n=n,
        recover=recover,
        epochs=epochs,
    )
    check_recovery(recover, data)
    if recover == TRAINED:
        Tuning(epochs=epochs, batch=batch_size)  # wrong numbers are said now, not after pruning
    check_choice(choice.save, method, choice.max_drop, choice.min_accuracy)
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
    example = example_input(loaded, model, input_shape, evaluation if train is None else train)
    check_fit(loaded, example, [batches for batches in (train, evaluation) if batches is not None])
    guide = None
    if data is not None and _looks_at_images(choice):
        guide = guide_images(options, data, only=only, n=n)
    result = prune_and_save(
        loaded,
        example,
        choice,
        out,
        force=force,
        eval_data=evaluation,
        firing_data=None
        if source is None
        else options.open(
            source, "eval", only=only, limit=min(limit or FIRING_IMAGES, FIRING_IMAGES)
        ),
        device=place,
        train=guide,
        curves=curves,
        tuning_data=None if data is None else options.open(data, "train", only=only, shuffle=True),
        settings={
            "model": model,
            "checkpoint": weights_of(loaded, checkpoint),
            **data_settings(options, data, eval_data),
            "calibration": None if guide is None else draw_record(guide.info, seed),
        },
    )
    return result if json else None


def _looks_at_images(choice: Choice) -> bool:
    """Whether training images have a say: drawing them out of a stream takes its time."""
    return bool(
        choice.recover != "none"
        or choice.method != "uniform"
        or choice.saliency in FROM_DATA
        or choice.max_drop is not None
        or choice.min_accuracy is not None
        or {"sops", "energy"} & set(choice.save)
    )


def guide_images(options: DataOptions, data: str, *, only: bool, n: int) -> Batches:
    """Training images for analysis and recovery: a seeded draw, mixed so that any part is one."""
    return options.open(
        data, "train", only=only, limit=max(images_needed(n, True), IMAGES), shuffle=True
    )


def saliency_of(named: str | None, curves: Curves | None) -> str | None:
    """The ranking of an analysis, which says nothing about another. Raises OptionError for one."""
    made = None if curves is None else curves.settings.get("saliency")
    if named is not None and made is not None and named != made:
        raise OptionError(
            f"--saliency {named}: the sensitivity file was made with {made}: leave --saliency out, "
            f"or run `psvit sensitivity --saliency {named}`"
        )
    return named or made
