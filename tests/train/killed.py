"""Trains into the folder argv[1] and kills itself, as if by `kill -9`, after argv[2] steps.

argv[3] is the time between checkpoints in seconds.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from psvit.train import fit, loop
from psvit.train.progress import Status
from tests.train.small import CONFIG, small_data, small_model


def main() -> None:
    """Train until killed."""
    out, steps, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    loop.CHECKPOINT_SECONDS = seconds

    def kill(status: Status) -> None:
        if status.step == steps:
            os.kill(os.getpid(), signal.SIGKILL)

    fit(small_model(), small_data(), CONFIG, out=out, progress=kill)


if __name__ == "__main__":
    main()
