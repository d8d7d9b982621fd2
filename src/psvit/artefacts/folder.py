"""Folders that appear whole or not at all.

A folder is built under a hidden name beside its target and then renamed. The target is
replaced only by force, and only when psvit wrote every file in it.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from psvit.errors import OutputError

WEIGHTS = "model.safetensors"
PLAN = "plan.json"
METRICS = "metrics.json"
REPORT = "report.html"
CURVES = "sensitivity.json"
CURVES_TABLE = "sensitivity.csv"
TRAINING_LOG = "finetune.jsonl"
BENCH = "bench.json"
CARD = "README.md"
CONFIG = "config.json"
OWN_FILES = frozenset(
    {WEIGHTS, PLAN, METRICS, REPORT, CURVES, CURVES_TABLE, TRAINING_LOG, BENCH, CARD, CONFIG}
)


def is_artefact(folder: Path) -> bool:
    """True for a folder that holds weights and a plan of psvit's."""
    if not (folder / WEIGHTS).is_file():
        return False
    try:
        return "psvit_plan" in json.loads((folder / PLAN).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


@dataclass(frozen=True)
class Kind:
    """What a folder of psvit's may hold, and how such a folder is told from any other."""

    files: frozenset[str]
    is_one: Callable[[Path], bool]


PRUNED = Kind(OWN_FILES, is_artefact)
"""A pruned model."""


def check_target(out: Path, *, force: bool = False, kind: Kind = PRUNED) -> None:
    """Say now, before the work, that `out` could not be written at its end.

    Raises OutputError if `out` exists (with `force`: if it is not psvit's, or holds files that
    psvit did not write), or if its parent cannot be written.
    """
    if not os.path.lexists(out):
        parent = out.absolute().parent
        while not os.path.lexists(parent):
            parent = parent.parent
        if not parent.is_dir():
            raise OutputError(f"cannot write {out}: {parent} is a file, expected a folder")
        if not os.access(parent, os.W_OK | os.X_OK):
            raise OutputError(f"cannot write {out}: no permission to write in {parent}")
        return
    if not out.is_dir():
        raise OutputError(f"{out} is a file: give the name of a new folder")
    if not force:
        raise OutputError(f"{out} exists: give another folder, or --force to replace it")
    inside = sorted(entry.name for entry in out.iterdir())
    if not inside:
        return
    if not kind.is_one(out):
        raise OutputError(f"{out} is not a folder that psvit wrote, so it is not replaced")
    strangers = [name for name in inside if name not in kind.files]
    if strangers:
        raise OutputError(
            f"{out} holds {strangers[0]}, which psvit did not write, so it is not replaced: "
            "move it away, or give another folder"
        )


@contextmanager
def written_folder(out: Path, *, force: bool = False, kind: Kind = PRUNED) -> Iterator[Path]:
    """A folder to fill, which becomes `out` if the block ends well and vanishes if it does not.

    Raises OutputError as `check_target` does, and if writing fails.
    """
    check_target(out, force=force, kind=kind)
    out = out.resolve()
    created: list[Path] = []
    scratch = out.parent / f".{out.name}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        _make_parents(out.parent, created)
        scratch.mkdir()
        yield scratch
        _swap(scratch, out, force=force, kind=kind)
        created.clear()
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        # Runs on Ctrl-C too. After a good end there is nothing left to remove.
        shutil.rmtree(scratch, ignore_errors=True)
        for folder in reversed(created):
            folder.rmdir()


def _make_parents(folder: Path, created: list[Path]) -> None:
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for folder in reversed(missing):
        folder.mkdir()
        created.append(folder)


def _swap(scratch: Path, out: Path, *, force: bool, kind: Kind) -> None:
    """Rename `scratch` to `out`; an `out` that was there is back if that fails."""
    check_target(out, force=force, kind=kind)  # again: hours may have passed
    if not out.exists():
        os.replace(scratch, out)
        return
    old = scratch.with_suffix(".old")
    os.replace(out, old)
    try:
        os.replace(scratch, out)
    except BaseException:
        os.replace(old, out)
        raise
    shutil.rmtree(old, ignore_errors=True)
