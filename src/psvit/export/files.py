"""A file and the JSON beside it, which appear both or not at all."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from psvit.errors import OutputError


def json_path(path: Path) -> Path:
    """Where what psvit says about a file lies."""
    return path.with_name(path.name + ".json")


def check_file(path: Path, *, force: bool) -> None:
    """Say now, before the work, that ``path`` could not be written. Raises OutputError."""
    if path.is_dir():
        raise OutputError(f"{path} is a folder: give the name of a file")
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: {path.parent} is not a folder")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write {path}: no permission to write in {path.parent}")
    beside = [path.with_suffix(".bin")] if path.suffix == ".xml" else []  # OpenVINO's weights
    for one in (path, json_path(path), *beside):
        if os.path.lexists(one) and not force:
            raise OutputError(f"{one} exists: give another file, or --force to replace it")


@contextmanager
def written_file(path: Path, *, force: bool) -> Iterator[Path]:
    """A path to write to, which becomes ``path`` if the block ends well; with all beside it.

    What else the block leaves in its folder under names that start with the file's moves along.
    """
    check_file(path, force=force)
    scratch = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        scratch.mkdir()
        yield scratch / path.name
        check_file(path, force=force)
        # The file itself last: where it is, all is.
        for one in sorted(scratch.iterdir(), key=lambda p: p.name == path.name):
            os.replace(one, path.parent / one.name)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_json(path: Path, data: dict[str, object]) -> None:
    """For people and programs."""
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
