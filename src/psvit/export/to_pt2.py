"""The program that ``torch.export`` makes, in PyTorch's own format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from psvit.errors import CheckpointError
from psvit.export.lower import first_line, quiet
from psvit.export.records import Format, Forward


def write(program: ExportedProgram, path: Path) -> Mapping[str, Any]:
    """``torch.export.save``."""
    with quiet():
        torch.export.save(program, path)
    return {"torch": torch.__version__}


def read(path: Path) -> Forward:
    """``torch.export.load``, which runs no code of the file's own. Raises CheckpointError."""
    try:
        with quiet():
            module = torch.export.load(path).module()
    except Exception as error:  # torch raises whatever the damage happens to trip over
        raise CheckpointError(
            f"{path} is no program that torch.export wrote, or is damaged "
            f"({type(error).__name__}: {first_line(error)})"
        ) from error

    def forward(images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = module(images)
        return logits

    return forward


PT2 = Format(".pt2", None, write, read)
