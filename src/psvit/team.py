"""Which of several processes this is, where they were started together.

torchrun, `accelerate launch` and `srun` with a few exports say so in the environment: RANK counts
from 0, WORLD_SIZE is how many there are, LOCAL_RANK counts on one machine. Nothing here waits for
anybody: work is shared through a journal (``psvit.journal``), and training exchanges what it has to
through torch.distributed (``psvit.train.devices``).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def team_size() -> int:
    """How many processes were started together; 1 if this one was started alone."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """The number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_main() -> bool:
    """Whether this process talks to people, where several were started together."""
    return rank() == 0


def own_first(pieces: Sequence[T]) -> list[T]:
    """The same pieces, beginning with the share of this process, so that few meet at one.

    Those of the others follow: who is done helps.
    """
    start = len(pieces) * rank() // team_size() if rank() < team_size() else 0
    return [*pieces[start:], *pieces[:start]]


def own_device(device: str) -> str:
    """`cuda` as the GPU that this process has to itself on its machine; any other as it is."""
    local = os.environ.get("LOCAL_RANK")
    return f"cuda:{local}" if device == "cuda" and local is not None and team_size() > 1 else device
