"""What a run needs on disk to go on after a kill at any moment: a checkpoint and a log.

The checkpoint replaces the one before in one atomic step, and remembers how long the log was:
lines written after it are cut off on resume, because their steps are done again.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from psvit.errors import CheckpointError, OutputError

CHECKPOINT = "checkpoint.pt"
LOG = "log.jsonl"
SETTINGS = "settings.json"
BEST = "best.safetensors"
LAST = "last.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """The state after ``step`` optimizer steps.

    ``window`` is what has been summed since the last log line, ``seconds`` the time spent in
    training so far, in all the sessions of this run. ``best`` is the best Score on held-out images
    (``vars`` of it) and ``best_model`` the weights that reached it, where they are looked for.
    """

    step: int
    model: Mapping[str, torch.Tensor]
    ema: Mapping[str, torch.Tensor]
    optimizer: Mapping[str, Any]
    rng: Mapping[str, torch.Tensor]
    window: Mapping[str, float]
    seconds: float
    log_bytes: int
    best: Mapping[str, Any] | None = None
    best_model: Mapping[str, torch.Tensor] = field(default_factory=dict)


def write_atomically(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path`` as a whole or not at all. Raises OutputError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"cannot write {path}: {error.strerror}") from error


class RunFolder:
    """The folder of one run. Raises OutputError if it holds a run with other settings.

    ``defaults``: settings that count as said where an older psvit did not know them yet.
    """

    def __init__(
        self,
        path: Path,
        settings: Mapping[str, Any],
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = path
        self._log = path / LOG
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot create {path}: {error.strerror}") from error
        text = json.dumps(settings, indent=1, sort_keys=True)
        place = path / SETTINGS
        if place.exists():
            _check_same(place, json.loads(text), json.loads(json.dumps(defaults or {})))
        elif any(path.iterdir()):
            raise OutputError(
                f"{path} holds other files: expected a new folder, or one of an earlier run"
            )
        write_atomically(place, text.encode())

    def load(self) -> Checkpoint | None:
        """The last checkpoint, or None for a run that has none; cuts the log back to it."""
        place = self.path / CHECKPOINT
        if not place.exists():
            self._log.unlink(missing_ok=True)
            return None
        try:
            state = Checkpoint(**torch.load(place, map_location="cpu", weights_only=True))
        except Exception as error:
            # torch raises whatever the damage trips over.
            raise CheckpointError(
                f"{place} is damaged ({type(error).__name__}): delete the folder to start anew"
            ) from error
        if self._log.exists():
            os.truncate(self._log, min(state.log_bytes, self._log.stat().st_size))
        return state

    def store(self, state: Checkpoint) -> None:
        """Replace the checkpoint."""
        buffer = io.BytesIO()
        torch.save(vars(state), buffer)
        write_atomically(self.path / CHECKPOINT, buffer.getvalue())

    def keep(self, name: str, weights: Mapping[str, torch.Tensor]) -> None:
        """Replace the weights in the file ``name``, for people: resuming does not read them."""
        own = {key: tensor.cpu().contiguous() for key, tensor in weights.items()}
        write_atomically(self.path / name, save(own))

    def log(self, line: Mapping[str, Any]) -> None:
        """Append a line to the log, on disk when this returns."""
        try:
            with self._log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(f"cannot write {self._log}: {error.strerror}") from error

    def log_bytes(self) -> int:
        """The length of the log."""
        return self._log.stat().st_size if self._log.exists() else 0

    def read_log(self) -> list[dict[str, Any]]:
        """Every line of the log."""
        if not self._log.exists():
            return []
        return [json.loads(line) for line in self._log.read_text(encoding="utf-8").splitlines()]


def _check_same(place: Path, settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    try:
        before = _filled(json.loads(place.read_text(encoding="utf-8")), defaults)
    except (OSError, ValueError) as error:
        raise OutputError(f"{place} cannot be read ({error}): use another folder") from error
    if before != settings:
        keys = sorted(k for k in {*before, *settings} if before.get(k) != settings.get(k))
        changes = ", ".join(f"{k} {before.get(k)!r} is now {settings.get(k)!r}" for k in keys)
        raise OutputError(
            f"{place.parent} holds a run with other settings ({changes}): "
            "give the same to resume it, or another folder"
        )


def _filled(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """``settings`` with what they lack of ``defaults``, at every depth."""
    filled = {**defaults, **settings}
    for key, value in defaults.items():
        if isinstance(value, dict) and isinstance(filled[key], dict):
            filled[key] = _filled(filled[key], value)
    return filled
