"""A line on stderr that says how training goes: rewritten on a terminal, rare in a file."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import TextIO


@dataclass(frozen=True)
class Status:
    """Where a run stands. ``loss`` and ``accuracy`` are those of the steps since the last log
    line; ``images_per_second`` and ``seconds_left`` go by this session's speed."""

    step: int
    steps: int
    epoch: float
    epochs: float
    loss: float
    accuracy: float
    images_per_second: float
    seconds_left: float
    held_out: float | None = None


class ProgressLine:
    """Prints a Status now and then."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._every = 0.5 if self._terminal else 30.0
        self._last = 0.0
        self._width = 0

    def __call__(self, status: Status) -> None:
        """Print, if the last line is long enough ago or this is the last step."""
        now = time.monotonic()
        done = status.step == status.steps
        if now - self._last < self._every and not done:
            return
        self._last = now
        held = "" if status.held_out is None else f"  held-out {status.held_out:.2%}"
        text = (
            f"epoch {status.epoch:.2f}/{status.epochs:g}  loss {status.loss:.3f}  "
            f"accuracy {status.accuracy:.2%}{held}  {status.images_per_second:.0f} images/s  "
            f"{duration(status.seconds_left)} left"
        )
        if self._terminal:
            self._stream.write("\r" + text.ljust(self._width) + ("\n" if done else ""))
            self._width = len(text)
        else:
            self._stream.write(text + "\n")
        self._stream.flush()


def duration(seconds: float) -> str:
    """ "12 s", "3 min 05 s" or "2 h 07 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
