"""An append-only record of what is done, so that a killed job goes on where it was.

One JSON object a line: first what the job is (``fingerprint`` and ``settings``), then a line for
each finished piece, on the disk before the next piece starts. A last line that was torn by a
crash is dropped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from psvit.errors import OutputError, PlanError

T = TypeVar("T")


@dataclass(frozen=True)
class Kind(Generic[T]):
    """What a journal keeps: pieces of type T, each under a key.

    ``mark``: the first key of the first line, which tells the file from any other. ``job`` and
    ``pieces``: words for messages. ``hashes``: settings that are hashes -> what it means that
    they differ. ``write`` and ``read`` turn a piece into JSON data and back; ``read`` raises
    ValueError, KeyError or TypeError for data that are none.
    """

    mark: str
    version: int
    job: str
    pieces: str
    key: Callable[[T], Hashable]
    write: Callable[[T], Mapping[str, Any]]
    read: Callable[[Mapping[str, Any]], T]
    hashes: Mapping[str, str] = field(default_factory=dict)


class Journal(Generic[T]):
    """The pieces that are done, by key; ``add`` appends one to the file, if there is one."""

    def __init__(self, kind: Kind[T], path: Path | None, done: Mapping[Hashable, T]) -> None:
        self._kind = kind
        self._path = path
        self._file: int | None = None
        self.done = dict(done)

    def add(self, piece: T) -> None:
        """Keep a piece for good. Raises OutputError if the file cannot be written."""
        self._append(self._kind.write(piece))
        self.done[self._kind.key(piece)] = piece

    def _append(self, data: Mapping[str, Any]) -> None:
        if self._path is None or self._file is None:
            return
        line = (json.dumps(data) + "\n").encode()
        end = os.lseek(self._file, 0, os.SEEK_END)
        try:
            while line:
                line = line[os.write(self._file, line) :]
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, end)  # no half line stays behind
            raise OutputError(
                f"cannot write {self._path} ({error.strerror}): {len(self.done)} "
                f"{self._kind.pieces} are kept; make room and run the same command again to go on"
            ) from error


@contextmanager
def open_journal(
    kind: Kind[T], path: Path | None, fingerprint: str, settings: Mapping[str, Any]
) -> Iterator[Journal[T]]:
    """The journal at ``path``, begun or continued; without a path one in memory alone.

    Raises PlanError if the file is of another job (says what differs), or no journal;
    OutputError if it cannot be read or written.
    """
    header = {kind.mark: kind.version, "fingerprint": fingerprint, "settings": dict(settings)}
    if path is None:
        yield Journal(kind, None, {})
        return
    whole = _whole_lines(kind, path)
    journal = Journal(kind, path, _read(kind, path, whole, header) if whole else {})
    try:
        journal._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        os.ftruncate(journal._file, len(whole))
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
    try:
        if not whole:
            journal._append(header)
        yield journal
    finally:
        os.close(journal._file)


def difference(
    fingerprint: str,
    settings: Mapping[str, Any],
    found_fingerprint: Any,
    found_settings: Any,
    hashes: Mapping[str, str],
) -> str | None:
    """In words, the first thing in which what was found is of another job; None if none."""
    if found_fingerprint != fingerprint:
        return f"it is of another model ({found_fingerprint}, this one is {fingerprint})"
    found = found_settings if isinstance(found_settings, Mapping) else {}
    # hashes last: that n differs says more than that the images do
    plain = sorted({*map(str, settings), *map(str, found)} - set(hashes))
    for key in (*plain, *hashes):
        if settings.get(key) != found.get(key):
            if key in hashes:
                return hashes[key]
            return f"its {key} is {_text(found.get(key))}, now {_text(settings.get(key))}"
    return None


def _text(value: Any) -> str:
    return json.dumps(value) if value is not None else "not said"


def _whole_lines(kind: Kind[Any], path: Path) -> bytes:
    """What the file holds up to its last line end."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror}") from error
    if not data.startswith(f'{{"{kind.mark}'.encode()[: len(data)]):
        raise PlanError(
            f"{path} is not a journal of psvit, so it is not touched: move it away, or give "
            "another file"
        )
    return data[: data.rfind(b"\n") + 1]


def _read(kind: Kind[T], path: Path, whole: bytes, header: Mapping[str, Any]) -> dict[Hashable, T]:
    done: dict[Hashable, T] = {}
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            data = json.loads(line)
            if number == 1:
                _check(kind, path, data, header)
                continue
            piece = kind.read(data)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PlanError(
                f"{path}, line {number} is damaged ({type(error).__name__}: {error}): delete the "
                "file to begin anew"
            ) from error
        done.setdefault(kind.key(piece), piece)
    return done


def _check(
    kind: Kind[Any], path: Path, found: Mapping[str, Any], header: Mapping[str, Any]
) -> None:
    if found[kind.mark] != kind.version:
        raise PlanError(
            f"{path} has version {found[kind.mark]!r}, this psvit reads version {kind.version}: "
            "delete the file to begin anew"
        )
    wrong = difference(
        header["fingerprint"],
        json.loads(json.dumps(header["settings"])),
        found["fingerprint"],
        found["settings"],
        kind.hashes,
    )
    if wrong is not None:
        raise PlanError(
            f"{path} is the journal of another {kind.job}: {wrong}; delete it, or give another file"
        )
