"""Results as lines of a file: one line a result, appended when it is done, never computed twice."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from psvit.evaluate import unpack

Key = tuple[str, str, str, str, str]
"""Model, method, saliency, recovery, level."""

DENSE = "dense"


def key_of(line: dict[str, Any]) -> Key:
    """What tells a result from every other."""
    return tuple(line[k] for k in ("model", "method", "saliency", "recover", "level"))  # type: ignore[return-value]


def read(*paths: Path) -> dict[Key, dict[str, Any]]:
    """The results in files, which are of a run or the .json of a table.

    A line that was cut off by a kill is left out.
    """
    found = {}
    for path in paths:
        for line in _lines(path):
            found[key_of(line)] = line
    return found


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    if path.suffix == ".json":
        yield from json.loads(path.read_text())
        return
    for text in path.read_text().splitlines():
        try:
            yield json.loads(text)
        except ValueError:
            continue


def append(path: Path, line: dict[str, Any]) -> None:
    """Add a result, whole or not at all."""
    data = (json.dumps(line) + "\n").encode()
    with path.open("ab") as file:
        if file.tell() and not path.read_bytes().endswith(b"\n"):
            data = b"\n" + data
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def unpacked(line: dict[str, Any]) -> torch.Tensor:
    """Which images are right, bool ``[n]``."""
    return unpack(line["right"], line["n"])
