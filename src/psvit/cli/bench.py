"""`psvit bench`: how much faster a pruned model really is."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table

from psvit.artefacts.folder import BENCH, REPORT, is_artefact
from psvit.artefacts.save import as_text
from psvit.bench import RUNTIMES, Bench, Row, Subject, check_bench, usable_runtimes
from psvit.bench import bench as run_bench
from psvit.capture import capture
from psvit.cli.console import note, reports, say, stages
from psvit.cli.inputs import check_alone, check_device
from psvit.cli.options import Device, Json
from psvit.compare.masks import mask_smallest
from psvit.cost import measure
from psvit.errors import OptionError, OutputError
from psvit.groups import find_groups
from psvit.models.load import load_model
from psvit.records import InputSpec
from psvit.report.rebuild import write_report
from psvit.report.units import bytes_text, count_text, plural


@reports
def bench(
    out: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="A folder that psvit wrote.", show_default=False),
    ],
    runtimes: Annotated[
        str | None,
        typer.Option(
            "--runtimes",
            metavar="NAMES",
            help=f"Some of {', '.join(RUNTIMES)}; all that run here.",
        ),
    ] = None,
    batch_size: Annotated[
        str, typer.Option("--batch-size", metavar="N,N", help="Images a forward.")
    ] = "1,32",
    dtype: Annotated[
        str, typer.Option("--dtype", metavar="NAMES", help="float32, bfloat16, float16.")
    ] = "float32",
    seconds: Annotated[
        float,
        typer.Option(metavar="S", help="About how long each batch size of a runtime is timed."),
    ] = 10.0,
    threads: Annotated[
        int | None, typer.Option(metavar="N", help="Of a CPU. By default PyTorch's own.")
    ] = None,
    device: Device = "cpu",
    json: Json = False,
) -> Mapping[str, Any] | None:
    """Time the dense, the pruned and a masked model.

    In each runtime the three run in turns: the original with fresh weights, which do not change how
    long it takes, the pruned model, and the original with as many weights set to zero as pruning
    took. The result is kept in OUT, and shown in its report.
    """
    check_alone("bench", "start one")
    place = check_device(device)
    chosen = _names(runtimes) if runtimes else list(usable_runtimes(place))
    batches = [_whole(text) for text in _names(batch_size)]
    if not is_artefact(out):
        raise OutputError(f"{out} is not a folder that psvit wrote: expected one")
    if seconds <= 0:
        raise OptionError(f"--seconds is {seconds:g}, expected more than 0")
    if threads is not None:
        if threads < 1:
            raise OptionError(f"--threads is {threads}, expected 1 or more")
        torch.set_num_threads(threads)
    check_bench(chosen, batches, _names(dtype), place)
    with stages() as stage:
        stage("building the models")
        subjects, spec = _subjects(out)
        found = run_bench(
            subjects,
            spec,
            runtimes=chosen,
            batches=batches,
            dtypes=_names(dtype),
            device=place,
            seconds=seconds,
            say=stage,
        )
    say(speed_table(found))
    dense, pruned = (count_text(found.macs[name]) for name in ("dense", "pruned"))
    say(
        f"share: of the ratio of MACs, {dense} / {pruned} = {found.macs_ratio('pruned'):.2f}, that "
        "the speed-up reaches"
    )
    about = found.about
    say(f"{about['device']}, {plural(about['threads'], 'thread')}, torch {about['torch']}")
    _keep(out, found)
    return found.to_dict() if json else None


def speed_table(found: Bench) -> Table:
    """A row for each runtime, batch size and model."""
    table = Table(box=None, pad_edge=False)
    table.add_column("runtime")
    table.add_column("model")
    for title in ("batch", "ms", "quartiles", "images/s", "speed-up", "share", "peak"):
        table.add_column(title, justify="right")
    for row in found.rows:
        name = row.runtime if row.dtype == "float32" else f"{row.runtime} {row.dtype}"
        table.add_row(name, row.model, str(row.batch), *_cells(row, found))
    return table


def _cells(row: Row, found: Bench) -> Sequence[str]:
    if row.median_ms is None or row.low_ms is None or row.high_ms is None:
        return ("-", row.failed or "failed")
    ratio = found.macs_ratio(row.model)
    faster = row.model != "dense" and row.speedup is not None
    return (
        f"{row.median_ms:.2f}",
        f"{row.low_ms:.1f}-{row.high_ms:.1f}",
        f"{row.images_per_s:,.1f}",
        f"{row.speedup:.2f}" if faster else "",
        f"{row.speedup / ratio:.0%}" if faster and ratio and row.speedup else "",
        "" if row.peak_bytes is None else bytes_text(row.peak_bytes),
    )


def _subjects(out: Path) -> tuple[dict[str, Subject], InputSpec]:
    loaded = load_model(str(out))
    if loaded.source is None or loaded.plan is None:
        raise OptionError(
            f"{out} does not say how to build the original, so there is nothing to compare with: "
            "prune by the command line, or give source= to psvit.prune"
        )
    dense = load_model(loaded.source.factory, loaded.source.arguments, weights=False).model
    spec = loaded.plan.inputs[0]
    macs = {}
    for name, model in (("dense", dense), ("pruned", loaded.model)):
        graph = capture(model, spec.zeros(2), check=False)
        macs[name] = measure(graph, find_groups(graph), {}).macs
    sizes = [sum(p.numel() for p in model.parameters()) for model in (dense, loaded.model)]
    masked, _ = mask_smallest(dense, 1 - sizes[1] / sizes[0])
    return {
        "dense": Subject(dense, macs["dense"]),
        "pruned": Subject(loaded.model, macs["pruned"]),
        "masked": Subject(masked, macs["dense"]),
    }, InputSpec((2, *spec.shape[1:]), spec.dtype)


def _keep(out: Path, found: Bench) -> None:
    """Write OUT/bench.json at once or not at all, and the report anew where there is one."""
    scratch = out / f".{BENCH}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        scratch.write_text(as_text(found.to_dict()), encoding="utf-8")
        os.replace(scratch, out / BENCH)
    except OSError as error:
        raise OutputError(f"cannot write {out / BENCH}: {error.strerror or error}") from error
    finally:
        scratch.unlink(missing_ok=True)
    say(f"written to  {out / BENCH}")
    if (out / REPORT).is_file():
        try:
            write_report(out)
        except OutputError as error:
            note(f"the report was not written again: {error}")


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _whole(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise OptionError(f"--batch-size {text!r}: expected whole numbers of 1 or more, as 1,32")
    return int(text)
