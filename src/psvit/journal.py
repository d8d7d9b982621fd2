"""An append-only record of what is done, so that a killed job goes on where it was.

One JSON object a line: first what the job is (``fingerprint`` and ``settings``), then a line for
each finished piece, on the disk before the next piece starts. A last line that was torn by a
crash is dropped. Processes that work on the same job share a journal, see ``Journal``.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from psvit.errors import OutputError, PlanError
from psvit.team import rank, team_size

try:
    import fcntl
except ImportError:  # not on this system: then a journal is for one process
    fcntl = None  # type: ignore[assignment]

T = TypeVar("T")
Key = TypeVar("Key", bound=Hashable)

WRITING = 1 << 40
"""The byte that whoever writes holds; those behind it stand for pieces. No journal is as long."""

WAIT_S = 0.05
"""How long to wait before looking again at what others are doing."""

LEFT = "psvit_process_left"
RUN = ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "SLURM_JOB_ID")
"""What tells one start of several processes from the next."""


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
    """The pieces that are done, by key; ``add`` appends one to the file, if there is one.

    Several processes may have the same journal open, on one machine or on a file system that they
    share: ``take`` hands each of them other pieces. A piece that is being worked on is a lock on a
    byte far behind the end of the file. The system lets go of it when its process ends, however
    that is, so a process that dies costs what it was at, and leaves nothing behind. (Locks are
    POSIX record locks: a file system that has none refuses them.)
    """

    def __init__(self, kind: Kind[T], path: Path | None) -> None:
        self._kind = kind
        self._path = path
        self._file: int | None = None
        self._read_to = 0
        self._lines = 0
        self.done: dict[Hashable, T] = {}

    def add(self, piece: T) -> None:
        """Keep a piece for good. Raises OutputError if the file cannot be written."""
        if self._file is not None:
            with self._locked():
                self._refresh()
                self._append(self._kind.write(piece))
        self.done[self._kind.key(piece)] = piece

    def take(self, keys: Iterable[Key]) -> Iterator[Key]:
        """The keys that are not done, in order, each while no other process works on it.

        At the end all are done, here or elsewhere: what others work on is waited for, and taken
        over if they end without it. The caller adds each before it asks for the next.
        """
        left = list(keys)
        while left:
            if self._file is not None:
                self._refresh()
            left = [key for key in left if key not in self.done]
            mine = next((key for key in left if self._claim(key)), None)
            if mine is None:
                time.sleep(WAIT_S if left else 0)
                continue
            try:
                if self._file is not None:
                    self._refresh()  # it may have been finished just before
                if mine not in self.done:
                    yield mine
            finally:
                self._unlock(_place(mine))

    def _open(self, file: int, header: Mapping[str, Any]) -> None:
        """Read what is there, or begin. Raises as ``open_journal`` does."""
        self._file = file
        with self._locked():
            data = os.pread(file, os.fstat(file).st_size, 0)
            whole = _whole_lines(self._kind, self._path, data)
            if whole:
                self._take_in(whole, header)
            os.ftruncate(file, len(whole))  # a torn line: none is being written now
            if not whole:
                self._append(header)

    def _refresh(self) -> None:
        """Take in what other processes have added."""
        assert self._file is not None
        size = os.fstat(self._file).st_size
        if size > self._read_to:
            data = os.pread(self._file, size - self._read_to, self._read_to)
            self._take_in(data[: data.rfind(b"\n") + 1])

    def _take_in(self, whole: bytes, header: Mapping[str, Any] | None = None) -> None:
        for line in whole.splitlines():
            self._lines += 1
            try:
                data = json.loads(line)
                if self._lines == 1 and header is not None:
                    _check(self._kind, self._path, data, header)
                    continue
                if LEFT in data:
                    continue
                piece = self._kind.read(data)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise PlanError(
                    f"{self._path}, line {self._lines} is damaged ({type(error).__name__}: "
                    f"{error}): delete the file to begin anew"
                ) from error
            self.done.setdefault(self._kind.key(piece), piece)
        self._read_to += len(whole)

    def _append(self, data: Mapping[str, Any]) -> None:
        if self._file is None:
            return
        line = (json.dumps(data) + "\n").encode()
        os.ftruncate(self._file, self._read_to)  # what a process that died had half written
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
        self._read_to = os.lseek(self._file, 0, os.SEEK_CUR)
        self._lines += 1

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """While no other process writes."""
        self._lock(WRITING, wait=True)
        try:
            yield
        finally:
            self._unlock(WRITING)

    def _claim(self, key: Hashable) -> bool:
        return self._file is None or self._lock(_place(key), wait=False)

    def _lock(self, place: int, *, wait: bool) -> bool:
        if fcntl is None or self._file is None:
            return True
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, place)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            if team_size() == 1:
                return True  # nobody to share with
            raise OutputError(
                f"{self._path} is on a file system without locks ({error.strerror}), so processes "
                "cannot share it: put it on one that has them, or start one process"
            ) from error
        return True

    def _unlock(self, place: int) -> None:
        if fcntl is not None and self._file is not None:
            with suppress(OSError):
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, place)


def leave(path: Path) -> None:
    """Be done with a journal: it goes when the last of the processes started together is.

    One that ends otherwise never says so: then the journal stays, and the same command finds all
    done.
    """
    if team_size() < 2:
        path.unlink(missing_ok=True)
        return
    run = ":".join(os.environ.get(name, "") for name in RUN)
    line = json.dumps({LEFT: rank(), "run": run}) + "\n"
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return
    try:
        if fcntl is not None:
            fcntl.lockf(file, fcntl.LOCK_EX, 1, WRITING)
        data = os.pread(file, os.fstat(file).st_size, 0)
        whole = data[: data.rfind(b"\n") + 1]
        os.ftruncate(file, len(whole))
        os.pwrite(file, line.encode(), len(whole))
        lines = [*whole.splitlines(), line.encode()]
        left = {one[LEFT] for one in map(json.loads, lines) if one.get("run") == run}
        if len(left) >= team_size():
            path.unlink(missing_ok=True)
    finally:
        os.close(file)


def _place(key: Hashable) -> int:
    """The byte whose lock stands for a piece; two pieces on one byte merely wait for each other."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return WRITING + 1 + int.from_bytes(digest[:5], "big")


@contextmanager
def open_journal(
    kind: Kind[T], path: Path | None, fingerprint: str, settings: Mapping[str, Any]
) -> Iterator[Journal[T]]:
    """The journal at ``path``, begun or continued; without a path one in memory alone.

    Raises PlanError if the file is of another job (says what differs), or no journal;
    OutputError if it cannot be read or written.
    """
    header = {kind.mark: kind.version, "fingerprint": fingerprint, "settings": dict(settings)}
    journal = Journal(kind, path)
    if path is None:
        yield journal
        return
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        doing = "read" if path.is_dir() else "write"
        raise OutputError(f"cannot {doing} {path}: {error.strerror}") from error
    try:
        journal._open(file, header)
        yield journal
    finally:
        os.close(file)


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


def _whole_lines(kind: Kind[Any], path: Path | None, data: bytes) -> bytes:
    """What a file holds up to its last line end. Raises PlanError if it is no journal."""
    if not data.startswith(f'{{"{kind.mark}'.encode()[: len(data)]):
        raise PlanError(
            f"{path} is not a journal of psvit, so it is not touched: move it away, or give "
            "another file"
        )
    return data[: data.rfind(b"\n") + 1]


def _check(
    kind: Kind[Any], path: Path | None, found: Mapping[str, Any], header: Mapping[str, Any]
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
