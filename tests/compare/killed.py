"""Compares methods with the journals argv[1] and argv[2], and kills itself after argv[3] results.

With 0 it does so in the middle of the sensitivity analysis.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from tests.compare.small import compared


def main() -> None:
    """Compare until killed."""
    after = int(sys.argv[3])

    def kill_points(done: int, total: int | None) -> None:
        if after == 0 and done >= 8:
            os.kill(os.getpid(), signal.SIGKILL)

    def kill_cells(done: int, total: int | None) -> None:
        if 0 < after <= done:
            os.kill(os.getpid(), signal.SIGKILL)

    journals = {"journal": Path(sys.argv[1]), "analysis_journal": Path(sys.argv[2])}
    compared(**journals, tick=kill_points, cell_tick=kill_cells)


if __name__ == "__main__":
    main()
