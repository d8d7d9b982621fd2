"""Analyses the tiny model with the journal argv[1], and prints the result.

Several of these with the same journal share the work. With argv[2] this one dies in its first
point, but not before another has finished one.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from psvit.sensitivity.files import curves_to_json
from tests.sensitivity.tiny import tiny
from tests.zoo.case import float64


def main() -> None:
    """Analyse until killed, or to the end."""
    journal, dies = Path(sys.argv[1]), sys.argv[2:] == ["dies"]

    def die(done: int, total: int | None) -> None:
        while len(journal.read_bytes().splitlines()) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGKILL)

    with float64():
        sys.stdout.write(
            curves_to_json(tiny().analyse(journal=journal, progress=die if dies else None))
        )


if __name__ == "__main__":
    main()
