"""Fine-tuning as commands run it: progress, a folder to go on from, and the figures that result."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from psvit.cli.console import note
from psvit.cli.resume import Interrupted
from psvit.errors import CheckpointError, OutputError
from psvit.finetune import Tuned, Tuning, finetune
from psvit.team import is_main
from psvit.train import ProgressLine, Status
from psvit.train.checkpoint import CHECKPOINT, SETTINGS


@dataclass(frozen=True)
class Place:
    """Where a fine-tuning keeps its state: ``run`` beside ``out``, or one that was named."""

    run: Path
    named: bool = False


def place_of(out: Path, resume: Path | None) -> Place:
    """``OUT.run``, or what --resume names: the folder of a run, or the checkpoint in it.

    Raises OutputError for a --resume in which no run was begun.
    """
    if resume is None:
        return Place(out.with_name(out.name + ".run"))
    run = resume.parent if resume.name == CHECKPOINT else resume
    if not (run / SETTINGS).is_file():
        raise OutputError(
            f"--resume {resume}: no fine-tuning was begun there, expected the folder of one, "
            "such as OUT.run"
        )
    return Place(run, named=True)


def training_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of what a folder remembers, that which decides how training goes."""
    return {key: settings[key] for key in ("data", "recipe")}


def tune(
    small: nn.Module,
    dense: nn.Module | None,
    data: Any,
    tuning: Tuning,
    place: Place,
    *,
    device: torch.device,
    settings: Mapping[str, Any],
    student: Mapping[str, Any] | None = None,
    force: bool = False,
    progress: Callable[[Status], None] | None = None,
) -> Tuned:
    """Fine-tune ``small`` in place; Ctrl-C leaves what is needed to go on.

    ``student``: how ``small`` was made, if not read from a file; see ``psvit.finetune``.

    With ``force``, a run of other settings in a folder that was not named makes way. ``progress``
    None: a line of its own on stderr.
    """
    tell = note if is_main() else _nothing
    if (place.run / CHECKPOINT).exists():
        tell(f"going on from {place.run}, if it is the same fine-tuning")
    try:
        start = partial(
            finetune,
            small,
            dense,
            data,
            tuning,
            device=device,
            run=place.run,
            settings=settings,
            student=student,
            progress=progress or ProgressLine(),
            note=tell,
        )
        return _begun(start, place, force)
    except KeyboardInterrupt as error:
        if not (place.run / CHECKPOINT).exists():
            raise
        raise Interrupted(
            f"interrupted; what is done is kept in {place.run}, and the same command goes on "
            "from it"
        ) from error


def _begun(start: Callable[[], Tuned], place: Place, force: bool) -> Tuned:
    try:
        return start()
    except (OutputError, CheckpointError):
        ours = (place.run / SETTINGS).is_file()
        if place.named or not force or not ours:
            raise
    note(f"{place.run} held another fine-tuning, which --force replaces")
    shutil.rmtree(place.run)
    return start()


def _nothing(text: str) -> None:
    """What the processes beside the first have to say."""


def log_text(tuned: Tuned) -> str:
    """The whole log, a JSON object a line."""
    return "".join(json.dumps(dict(line)) + "\n" for line in tuned.log)
