"""`psvit finetune`: train a pruned model to say what the dense one says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from psvit.artefacts import check_target
from psvit.cli.console import reports
from psvit.cli.inputs import (
    DataOptions,
    check_device,
    check_fit,
    example_input,
    recipe_of,
)
from psvit.cli.options import (
    Checkpoint,
    Data,
    Device,
    EvalData,
    Force,
    ImageColumn,
    Json,
    LabelColumn,
    Limit,
    Mean,
    ModelArg,
    RecipeName,
    Seed,
    Size,
    SkipBad,
    Std,
    Workers,
)
from psvit.cli.teacher import dense_model
from psvit.cli.tuned import Job, tune_and_save
from psvit.errors import OptionError, OutputError
from psvit.finetune import Tuning
from psvit.models.load import load_model

TUNING = Tuning()


@reports
def finetune(
    folder: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="What `psvit prune` wrote.", show_default=False),
    ],
    data: Data = None,
    epochs: Annotated[
        float, typer.Option(metavar="E", help="Passes over the training images; may be 0.1.")
    ] = TUNING.epochs,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", metavar="OUT2", help="The folder to write. By default OUT-finetuned."
        ),
    ] = None,
    eval_data: EvalData = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="The dense model; by default the one that OUT was pruned from. Its weights are "
            "those of --checkpoint, or as it was pruned with.",
        ),
    ] = None,
    checkpoint: Checkpoint = None,
    model_arg: ModelArg = None,
    temperature: Annotated[
        float, typer.Option(metavar="TAU", help="Softens the probabilities that are compared.")
    ] = TUNING.temperature,
    label_weight: Annotated[
        float,
        typer.Option(
            metavar="W", help="Share of the loss that labels have: 0 needs none, 1 no teacher."
        ),
    ] = TUNING.label_weight,
    features: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Layers whose outputs are matched too, such as 'blocks.*'; may be repeated.",
        ),
    ] = None,
    feature_weight: Annotated[
        float, typer.Option(metavar="W", help="Weight of --features in the loss.")
    ] = TUNING.feature_weight,
    lr: Annotated[
        float, typer.Option(metavar="RATE", help="Highest learning rate of AdamW.")
    ] = TUNING.lr,
    weight_decay: Annotated[float, typer.Option(metavar="W", help="Of matrices and kernels.")] = (
        TUNING.weight_decay
    ),
    warmup: Annotated[
        float, typer.Option(metavar="SHARE", help="Of the steps, until the highest rate.")
    ] = TUNING.warmup,
    clip: Annotated[
        float, typer.Option(metavar="NORM", help="Bound of the gradient's norm; 0: none.")
    ] = TUNING.clip,
    ema: Annotated[
        float, typer.Option(metavar="DECAY", help="Of averaged weights, such as 0.999; 0: none.")
    ] = TUNING.ema,
    bf16: Annotated[
        bool, typer.Option("--bf16", help="Compute in bfloat16.", show_default=False)
    ] = False,
    norms: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Batch norms: batch, statistics of each batch; frozen, those that OUT has; auto, "
            "frozen if those are better at the start, and in the end matched to the dense "
            "model's if that is better still.",
        ),
    ] = TUNING.norms,
    augment: Annotated[
        str, typer.Option(metavar="NAME", help="Of training images: none, light, timm.")
    ] = TUNING.augment,
    held_out: Annotated[
        float,
        typer.Option(
            metavar="SHARE", help="Of the training images, to choose the weights to keep by."
        ),
    ] = TUNING.held_out,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="The folder of a run that was cut short. The same command finds OUT2.run itself.",
        ),
    ] = None,
    recipe: RecipeName = None,
    size: Size = None,
    mean: Mean = None,
    std: Std = None,
    skip_bad: SkipBad = False,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    limit: Limit = None,
    batch_size: Annotated[
        int, typer.Option("--batch-size", metavar="N", help="Images a step, over all devices.")
    ] = TUNING.batch,
    workers: Workers = 0,
    device: Device = "cpu",
    seed: Seed = 0,
    force: Force = False,
    json: Json = False,
) -> Mapping[str, Any] | None:
    """Fine-tune a pruned model.

    The dense model teaches, without labels unless --label-weight asks for them. Of the training
    images a part is held out, and the weights that do best on it are written to OUT2, measured on
    the test part. A run that was cut short goes on when the same command runs again: OUT2.run
    keeps checkpoints, weights and logs. Under `accelerate launch -m psvit finetune ...` several
    devices train as one.
    """
    out = out or folder.with_name(folder.resolve().name + "-finetuned")
    check_target(out, force=force)
    tuning = Tuning(
        epochs=epochs,
        lr=lr,
        batch=batch_size,
        weight_decay=weight_decay,
        warmup=warmup,
        clip=clip,
        ema=ema,
        bf16=bf16,
        temperature=temperature,
        label_weight=label_weight,
        features=tuple(features or ()),
        feature_weight=feature_weight,
        norms=norms,
        augment=augment,
        held_out=held_out,
        seed=seed,
    )
    place = check_device(device)
    if not folder.is_dir():
        raise OutputError(f"{folder} is not a folder: expected one that psvit wrote")
    loaded = load_model(str(folder))
    told = (loaded.metrics or {}).get("settings", {})
    data = data or told.get("data")
    if data is None:
        raise OptionError("nothing says what to train on: give --data DATA")
    options = DataOptions(
        recipe=recipe_of(recipe, size, mean, std),
        skip_bad=skip_bad,
        limit=limit,
        batch_size=batch_size,
        workers=workers,
        seed=seed,
        image_column=image_column,
        label_column=label_column,
    ).with_recipe_of(loaded, str(folder))
    eval_data = eval_data or (told.get("eval_data") if data == told.get("data") else None)
    only = eval_data is not None
    train = options.open(data, "train", only=only, shuffle=True)
    evaluation = options.open(eval_data or data, "eval", only=only, limit=limit)
    example = example_input(loaded, str(folder), None, train)
    check_fit(loaded, example, [train, evaluation])
    dense = dense_model(loaded, teacher, checkpoint, model_arg, seed=seed, needed=tuning.taught)
    job = Job(folder, loaded, dense, tuning, options, data, eval_data, place)
    result = tune_and_save(job, train, example, out, resume=resume, force=force)
    return result if json else None
