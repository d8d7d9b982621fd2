"""A line on stderr that says how training goes: rewritten on a terminal, rare in a file."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import TextIO

from psvit.train.score import Score


@dataclass(frozen=True)
class Status:
    """Where a run stands. ``loss`` and ``accuracy`` (None without labels) are those of the steps
    since the last log line, ``held_out`` is of the last epoch; ``images_per_second`` and
    ``seconds_left`` go by this session's speed."""

    step: int
    steps: int
    epoch: float
    epochs: float
    loss: float
    accuracy: float | None
    images_per_second: float
    seconds_left: float
    held_out: Score | None = None


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
        text = status_text(status)
        if self._terminal:
            self._stream.write("\r" + text.ljust(self._width) + ("\n" if done else ""))
            self._width = len(text)
        else:
            self._stream.write(text + "\n")
        self._stream.flush()


def status_text(status: Status) -> str:
    """`epoch 0.50/5  loss 0.812  accuracy 71.20%  held-out 70.10%  102 images/s  12 s left`."""
    parts = [f"epoch {status.epoch:.2f}/{status.epochs:.4g}", f"loss {status.loss:.3f}"]
    if status.accuracy is not None:
        parts.append(f"accuracy {status.accuracy:.2%}")
    parts += _held_out(status.held_out)
    parts.append(f"{status.images_per_second:.0f} images/s")
    return "  ".join([*parts, f"{duration(status.seconds_left)} left"])


def _held_out(score: Score | None) -> list[str]:
    if score is not None and score.accuracy is not None:
        return [f"held-out {score.accuracy:.2%}"]
    if score is not None and score.loss is not None:
        return [f"held-out loss {score.loss:.3f}"]
    return []


def duration(seconds: float) -> str:
    """ "12 s", "3 min 05 s" or "2 h 07 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
