"""`psvit evaluate`: accuracy, size and latency of a model, or of a folder that psvit wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import nn

from psvit.capture import capture
from psvit.cli.console import note, reports, say, watch
from psvit.cli.exported import evaluate_export
from psvit.cli.inputs import (
    DataOptions,
    check_device,
    check_fit,
    data_settings,
    example_input,
    open_model,
    recipe_of,
)
from psvit.cli.measuring import (
    FIRING_IMAGES,
    latency_text,
    note_skipped,
    time_models,
    with_accuracy,
    with_firing,
)
from psvit.cli.options import (
    AllowPartial,
    BatchSize,
    Checkpoint,
    Data,
    Device,
    ImageColumn,
    Json,
    LabelColumn,
    Limit,
    Mean,
    Model,
    ModelArg,
    RecipeName,
    Seed,
    Size,
    SkipBad,
    Std,
    Workers,
)
from psvit.cli.resume import resumable
from psvit.cost import measure
from psvit.data import Batches, Loader
from psvit.errors import CaptureError, OptionError
from psvit.evaluate import accuracy_in_parts
from psvit.evaluate.parts import part_size
from psvit.export import is_export
from psvit.groups import find_groups
from psvit.models.load import LoadedModel
from psvit.records import Figures, InputSpec
from psvit.report.tables import figure_table
from psvit.sensitivity import tensors_hash
from psvit.team import is_main, team_size


@reports
def evaluate(
    model: Model,
    data: Data = None,
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
    limit: Limit = None,
    batch_size: BatchSize = 64,
    workers: Workers = 0,
    device: Device = "cpu",
    seed: Seed = 0,
    journal: Annotated[
        Path | None,
        typer.Option(
            "--journal",
            metavar="FILE",
            help="Keeps what is done, so that a killed evaluation goes on and processes that are "
            "started together share it; goes when all is done.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> Mapping[str, Any] | None:
    """Measure accuracy, size and latency.

    MODEL may be a folder that psvit wrote: it remembers its data and preprocessing. It may also be
    a file that `psvit export` wrote, which then runs in its own runtime, on the CPU.
    """
    if team_size() > 1 and journal is None:
        raise OptionError(
            f"{team_size()} processes were started together (WORLD_SIZE): to share the work, give "
            "--journal FILE on a disk that they share"
        )
    place = check_device(device)
    if is_export(model):
        if checkpoint is not None or model_arg or place.type != "cpu" or journal is not None:
            raise OptionError(
                f"{model} is an exported file, which runs as it is, on the CPU and in one process: "
                "drop --checkpoint, --model-arg, --device and --journal"
            )
        options = DataOptions(
            recipe=recipe_of(recipe, size, mean, std),
            skip_bad=skip_bad,
            batch_size=batch_size,
            workers=workers,
            seed=seed,
            image_column=image_column,
            label_column=label_column,
        )
        found = evaluate_export(Path(model), data, options, limit)
        return found if json else None
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
    source, only = _data_of(loaded, data)
    batches = options.open(source, "eval", only=only, limit=limit)
    example = example_input(loaded, model, None, batches)
    check_fit(loaded, example, [batches])
    figures = _cost(loaded, example)
    if journal is None:
        figures = with_accuracy(figures, loaded.model, batches, f"on {source}", place)
    else:
        settings = {"model": model, "n": batches.info.images, "batch_size": batch_size}
        settings |= {"recipe": data_settings(options, None, None)["recipe"], "seed": seed}
        settings |= {"data": source, "limit": limit, "weights": tensors_hash(loaded.model)}
        figures = _in_parts(figures, loaded.model, batches, journal, settings, place)
        if not is_main():
            return None
    note_skipped(batches)
    some = options.open(source, "eval", only=only, limit=min(limit or FIRING_IMAGES, FIRING_IMAGES))
    figures, firing = with_firing(figures, loaded.model, example, some, f"on {source}", place, seed)
    spec = InputSpec(tuple(example.shape), str(example.dtype).removeprefix("torch."))
    latency = time_models([loaded.model], spec, place)[0]
    figures = Figures(**{**asdict(figures), "latency_ms": latency.median_ms})
    say(figure_table(figures, latency_text(latency)))
    return {"model": model, "data": source, **asdict(figures), **firing} if json else None


def _in_parts(
    figures: Figures,
    model: nn.Module,
    batches: Batches,
    journal: Path,
    settings: Mapping[str, Any],
    device: torch.device,
) -> Figures:
    """With accuracy, which ``journal`` keeps in parts. Raises OptionError for data that stream."""
    if not isinstance(batches, Loader):
        raise OptionError(
            "--journal keeps parts of data whose images have numbers: digits, folder:PATH or "
            "parquet:GLOB"
        )
    with resumable(journal), watch("accuracy, parts") as tick:
        parts = batches.parts(part_size(batches.info.images or 0))
        got = accuracy_in_parts(model, parts, journal, settings, device=device, progress=tick)
    low, high = got.interval
    return replace(figures, accuracy=got.top1, accuracy_low=low, accuracy_high=high, n=got.n)


def _data_of(loaded: LoadedModel, data: str | None) -> tuple[str, bool]:
    """What to evaluate on, and whether it was named for that alone."""
    if data is not None:
        return data, True
    settings = (loaded.metrics or {}).get("settings", {})
    for key, only in (("eval_data", True), ("data", False)):
        if settings.get(key):
            note(f"evaluated on {settings[key]}, as when it was pruned")
            return str(settings[key]), only
    raise OptionError("nothing says what to evaluate on: give --data DATA")


def _cost(loaded: LoadedModel, example: torch.Tensor) -> Figures:
    """Memory, parameters and MACs; without MACs for a model that cannot be recorded."""
    try:
        graph = capture(loaded.model, example)
        return measure(graph, find_groups(graph), {})
    except CaptureError as error:
        note(f"MACs are not counted: {error}")
        tensors = {id(t): t for t in (*loaded.model.parameters(), *loaded.model.buffers())}
        return Figures(
            memory_bytes=sum(t.numel() * t.element_size() for t in tensors.values()),
            params=sum(p.numel() for p in loaded.model.parameters()),
            macs=0,
        )
