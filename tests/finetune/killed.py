"""Fine-tunes into the folder argv[1] and kills itself, as if by `kill -9`, after argv[2] steps."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from psvit.finetune import finetune
from psvit.train import Status, loop
from tests.finetune.tiny import TUNING, data, dense_model, pruned


def main() -> None:
    """Train until killed."""
    loop.CHECKPOINT_SECONDS = 0.0
    dense = dense_model()

    def kill(status: Status) -> None:
        if status.step == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)

    finetune(pruned(dense), dense, data(), TUNING, run=Path(sys.argv[1]), progress=kill)


if __name__ == "__main__":
    main()
