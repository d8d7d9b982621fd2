"""An append-only record of the points that are done, so that a killed analysis goes on.

One JSON object a line: first what the analysis is of, then a line for each finished point,
on the disk before the next point starts. A last line that was torn by a crash is dropped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from psvit.errors import OutputError, PlanError
from psvit.records import Point
from psvit.sensitivity.files import point_from, point_to
from psvit.sensitivity.identity import difference

JOURNAL_VERSION = 1
_KEY = "psvit_sensitivity_journal"


class Journal:
    """The points that are done, by (tie, removed); ``add`` appends one to the file, if any."""

    def __init__(self, path: Path | None, points: Mapping[tuple[int, int], Point]) -> None:
        self._path = path
        self._file: int | None = None
        self.points = dict(points)

    def add(self, point: Point) -> None:
        """Keep a point for good. Raises OutputError if the file cannot be written."""
        self._append(point_to(point))
        self.points[point.tie, point.removed] = point

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
                f"cannot write {self._path} ({error.strerror}): {len(self.points)} points are "
                "kept; make room and run the same command again to go on"
            ) from error


@contextmanager
def open_journal(
    path: Path | None, fingerprint: str, settings: Mapping[str, Any]
) -> Iterator[Journal]:
    """The journal at ``path``, begun or continued; without a path one in memory alone.

    Raises PlanError if the file is of another analysis (says what differs), or no journal;
    OutputError if it cannot be read or written.
    """
    header = {_KEY: JOURNAL_VERSION, "fingerprint": fingerprint, "settings": dict(settings)}
    if path is None:
        yield Journal(None, {})
        return
    whole = _whole_lines(path)
    journal = Journal(path, _read(path, whole, header) if whole else {})
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


def _whole_lines(path: Path) -> bytes:
    """What the file holds up to its last line end."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror}") from error
    if not data.startswith(f'{{"{_KEY}'.encode()[: len(data)]):
        raise _no_journal(path)
    return data[: data.rfind(b"\n") + 1]


def _read(path: Path, whole: bytes, header: Mapping[str, Any]) -> dict[tuple[int, int], Point]:
    points: dict[tuple[int, int], Point] = {}
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            data = json.loads(line)
            if number == 1:
                _check(path, data, header)
                continue
            point = point_from(data)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PlanError(
                f"{path}, line {number} is damaged ({type(error).__name__}: {error}): delete the "
                "file to begin anew"
            ) from error
        points.setdefault((point.tie, point.removed), point)
    return points


def _check(path: Path, found: Mapping[str, Any], header: Mapping[str, Any]) -> None:
    if found[_KEY] != JOURNAL_VERSION:
        raise PlanError(
            f"{path} has version {found[_KEY]!r}, this psvit reads version {JOURNAL_VERSION}: "
            "delete the file to begin anew"
        )
    wrong = difference(
        header["fingerprint"],
        json.loads(json.dumps(header["settings"])),
        found["fingerprint"],
        found["settings"],
    )
    if wrong is not None:
        raise PlanError(
            f"{path} is the journal of another analysis: {wrong}; delete it, or give another file"
        )


def _no_journal(path: Path) -> PlanError:
    return PlanError(
        f"{path} is not a journal of psvit, so it is not touched: move it away, or give another "
        "file"
    )
