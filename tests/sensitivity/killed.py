"""Analyses the tiny model with the journal argv[1], and kills itself after argv[2] images."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from tests.sensitivity.tiny import tiny
from tests.zoo.case import float64


def main() -> None:
    """Analyse until killed."""

    def kill(done: int, total: int | None) -> None:
        if done >= int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)

    with float64():
        tiny().analyse(journal=Path(sys.argv[1]), progress=kill)


if __name__ == "__main__":
    main()
