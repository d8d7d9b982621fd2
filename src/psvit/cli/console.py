"""Where words go: people's text to stderr, `--json` to stdout, and nothing else to stdout."""

from __future__ import annotations

import functools
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from typing import Any, ParamSpec

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from psvit.report.units import seconds_text
from psvit.team import is_main

P = ParamSpec("P")
Tick = Callable[[int, int | None], None]
"""Called with what is done and, where it is known, the total; less is done where a job begins."""

PATIENCE_S = 2.0
"""A job shorter than this shows no progress."""
PIPE_INTERVAL_S = 10.0
"""How often a job reports where nothing can be redrawn."""


def say(content: RenderableType = "") -> None:
    """Print for people. Text is never cut: a terminal wraps it, a pipe gets it whole.

    Of several processes that were started together, one talks.
    """
    if not is_main():
        return
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    console.print(content, soft_wrap=isinstance(content, str))


def note(text: str) -> None:
    """Something that was done differently than expected."""
    say(f"psvit: note: {text}")


def fail(text: object) -> None:
    """The one line that an error gets, however many its message has."""
    sys.stderr.write(f"psvit: error: {' '.join(str(text).split())}\n")


def reports(command: Callable[P, Mapping[str, Any] | None]) -> Callable[P, None]:
    """Make a function a subcommand: what it returns is printed as JSON, alone, on stdout.

    Models print as they are imported and run; that goes to stderr.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with redirect_stdout(sys.stderr):
            data = command(*args, **kwargs)
        if data is not None and is_main():
            sys.stdout.write(json.dumps(data, indent=1) + "\n")
            sys.stdout.flush()

    return run


@contextmanager
def watch(title: str) -> Iterator[Tick]:
    """Show how far a job is, its rate and the time left, once it takes over two seconds."""
    if not is_main():
        yield lambda done, total: None
        return
    console = Console(stderr=True, highlight=False)
    meter = _Bar(title, console) if console.is_terminal else _Lines(title)
    try:
        yield meter.tick
    finally:
        meter.close()


@contextmanager
def stages() -> Iterator[Callable[[str], None]]:
    """Show which stage a job is in, and for how long, where stages cannot count their work."""
    console = Console(stderr=True, highlight=False)
    if console.is_terminal:
        with Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        ) as progress:
            task = progress.add_task("")
            yield lambda stage: progress.update(task, description=stage)
        return
    timers: list[threading.Timer] = []

    def tell(stage: str) -> None:
        for timer in timers:
            timer.cancel()
        timers[:] = [threading.Timer(PATIENCE_S, say, [f"{stage} ..."])]
        timers[0].daemon = True
        timers[0].start()

    try:
        yield tell
    finally:
        for timer in timers:
            timer.cancel()


class _Bar:
    """A bar that is redrawn in place and gone at the end."""

    def __init__(self, title: str, console: Console) -> None:
        self._title, self._console = title, console
        self._start = time.monotonic()
        self._done = 0
        self._progress: Progress | None = None

    def tick(self, done: int, total: int | None) -> None:
        if self._progress is None:
            if time.monotonic() - self._start < PATIENCE_S:
                return
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:.0f}/{task.total}"),
                _Rate(),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._progress.start()
            self._task = self._progress.add_task(self._title, total=total)
        if done < self._done:
            self._progress.reset(self._task)
        self._done = done
        self._progress.update(self._task, completed=done, total=total)

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s")


class _Lines:
    """A line now and then, for logs."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._start = time.monotonic()
        self._due = self._start + PATIENCE_S
        self._done = 0

    def tick(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        if done < self._done:
            self._start = now
        self._done = done
        if now < self._due or done in (0, total):
            return
        self._due = now + PIPE_INTERVAL_S
        rate = done / (now - self._start)
        if total is None:
            say(f"{self._title}: {done} done, {rate:.1f}/s")
        else:
            left = seconds_text((total - done) / rate)
            say(f"{self._title}: {done}/{total}, {rate:.1f}/s, {left} left")

    def close(self) -> None:
        pass
