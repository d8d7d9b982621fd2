"""`psvit compare`: methods side by side, at the same budgets on the same images."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from psvit.artefacts import check_target
from psvit.cli.console import reports, say, stages, watch
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
from psvit.cli.measuring import note_skipped
from psvit.cli.options import (
    AllowPartial,
    BatchSize,
    Checkpoint,
    Data,
    Device,
    EvalData,
    ImageColumn,
    Images,
    Json,
    LabelColumn,
    Limit,
    Mean,
    Model,
    ModelArg,
    RecipeName,
    Seed,
    Sensitivity,
    Size,
    SkipBad,
    Std,
    Workers,
    parse_levels,
)
from psvit.cli.prune import guide_images, saliency_of
from psvit.cli.resume import analysis_journal, resumable
from psvit.cli.run import versions
from psvit.cli.typed import typed_command
from psvit.compare import compare as run_comparison
from psvit.compare import read_levels, read_rows
from psvit.compare.files import COMPARED, PAGE, comparison_to_json, write_comparison
from psvit.compare.table import comparison_table, notes
from psvit.errors import OptionError
from psvit.measured import plans_file
from psvit.recover import check_recovery


@reports
def compare(
    model: Model,
    out: Annotated[
        Path,
        typer.Option("-o", "--out", metavar="OUT", help="The folder to write.", show_default=False),
    ],
    save: Annotated[
        list[str],
        typer.Option(
            "--save",
            metavar="UNIT=A,B,...",
            help="Levels of what to save: memory=10%,22.4%,50%. Repeated for another unit, as many "
            "levels go together one by one.",
            show_default=False,
        ),
    ],
    data: Data = None,
    eval_data: EvalData = None,
    methods: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="Of random, uniform-l1, uniform-l2, taylor, psvit, primesvt, optimal, "
            "unstructured, and uniform-NAME for any saliency. By default all of the first.",
        ),
    ] = None,
    saliency: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="How the methods that an analysis guides rank channels, all of them alike. By "
            "default l1, with --recover obs obs.",
        ),
    ] = None,
    sensitivity: Sensitivity = None,
    n: Images = 256,
    recover: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Recovery of every model alike, and of the unpruned one beside them: none, bn, "
            "obs, lsq, auto.",
        ),
    ] = "none",
    align: Annotated[int, typer.Option(metavar="N", help="Keep widths at multiples of N.")] = 1,
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
    force: Annotated[
        bool, typer.Option("--force", help="Replace OUT if psvit wrote it.", show_default=False)
    ] = False,
    json: Json = False,
) -> Mapping[str, Any] | None:
    """Compare methods at the same budgets.

    Every method prunes MODEL to every level of --save, on training images; all results are judged
    on the same evaluation images, in pairs. OUT gets compare.json, a page and a picture. A job
    that was cut short goes on where it was when the same command runs again.
    """
    check_alone("compare", "start one")
    levels = parse_levels(save)
    read_levels(levels)
    names = None if methods is None else [name.strip() for name in methods.split(",")]
    read_rows(names)
    check_target(out, force=force, kind=COMPARED)
    curves = given_curves(sensitivity, data)
    if data is None:
        raise OptionError("nothing says what to choose channels on: give --data DATA")
    check_recovery(recover, data)
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
    source = eval_data or data
    train = guide_images(options, data, only=only, n=n)
    evaluation = options.open(source, "eval", only=only, limit=limit)
    example = example_input(loaded, model, None, train)
    check_fit(loaded, example, [train, evaluation])
    analysis = analysis_journal(out)
    journal = analysis.with_name(f"{out.name}.journal")
    with resumable(journal, analysis, plans_file(analysis)):
        with (
            stages() as tell,
            watch("measuring smaller models, images") as tick,
            watch("methods and budgets") as cell_tick,
        ):
            comparison = run_comparison(
                loaded.model,
                example,
                levels,
                train,
                evaluation,
                methods=names,
                saliency=saliency_of(saliency, curves),
                recover=recover,
                n=n,
                seed=seed,
                align=align,
                curves=curves,
                device=place,
                journal=journal,
                analysis_journal=analysis,
                progress=tell,
                tick=tick,
                cell_tick=cell_tick,
                settings={
                    "model": model,
                    **data_settings(options, data, eval_data),
                    "command": typed_command(),
                    "versions": versions(),
                },
            )
        write_comparison(comparison, out, force=force)
    note_skipped(evaluation)
    say(comparison_table(comparison))
    say()
    for line in notes(comparison):
        say(line)
    say(f"\nwritten to  {out}/\nlook at it  {out / PAGE}")
    return jsonlib.loads(comparison_to_json(comparison)) if json else None
