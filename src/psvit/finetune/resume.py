"""Whether a folder of an earlier run is one that a fine-tuning can go on from."""

from __future__ import annotations

import json
from pathlib import Path

from psvit.errors import CheckpointError
from psvit.train.checkpoint import SETTINGS


def check_same_plan(run: Path, plan: str | None) -> None:
    """Raises CheckpointError for a run of a model that another plan shaped.

    ``plan`` is the digest of the plan; what else may differ, the loop finds and names.
    """
    place = run / SETTINGS
    if not place.is_file():
        return
    try:
        found = json.loads(place.read_text(encoding="utf-8"))["plan"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{run} is not the folder of a fine-tuning ({type(error).__name__}: {error}): give "
            "the one that it was made in, or another name for a new one"
        ) from error
    if found != plan:
        raise CheckpointError(
            f"{run} holds a checkpoint of another plan ({_short(found)}, the model's is "
            f"{_short(plan)}): give the model that it was made for, or another folder"
        )


def _short(plan: str | None) -> str:
    return "none" if plan is None else plan[:12]
