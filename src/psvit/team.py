"""Which of several processes this is, where they were started together.

torchrun, `accelerate launch` and `srun` with a few exports say so in the environment: RANK counts
from 0, WORLD_SIZE is how many there are, LOCAL_RANK counts on one machine. Nothing here waits for
anybody: work is shared through a journal (``psvit.journal``), and training exchanges what it has to
through torch.distributed (``psvit.train.devices``).
"""

from __future__ import annotations

import os


def team_size() -> int:
    """How many processes were started together; 1 if this one was started alone."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """The number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_main() -> bool:
    """Whether this process talks to people, where several were started together."""
    return rank() == 0


def own_device(device: str) -> str:
    """`cuda` as the GPU that this process has to itself on its machine; any other as it is."""
    local = os.environ.get("LOCAL_RANK")
    return f"cuda:{local}" if device == "cuda" and local is not None and team_size() > 1 else device
