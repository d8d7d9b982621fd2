"""ExecuTorch's .pte, for phones and microcontrollers: portable operators, no delegate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from psvit.errors import CheckpointError, MissingExtra, ModelError
from psvit.export.lower import first_line, quiet
from psvit.export.records import Format, Forward

try:
    with quiet():
        import executorch.version
        from executorch.exir import to_edge_transform_and_lower
        from executorch.runtime import Runtime
except ImportError as error:
    raise MissingExtra(
        f"ExecuTorch did not import ({error}): install it with `pip install 'psvit[executorch]'`"
    ) from error


def write(program: ExportedProgram, path: Path) -> Mapping[str, Any]:
    """Raises ModelError for what ExecuTorch cannot say."""
    try:
        with quiet():
            made = to_edge_transform_and_lower(program).to_executorch()
    except Exception as error:  # its passes raise whatever they trip over
        raise ModelError(
            f"ExecuTorch cannot express this model ({type(error).__name__}: {first_line(error)})"
        ) from error
    path.write_bytes(made.buffer)
    return {"torch": torch.__version__, "executorch": executorch.version.__version__}


def read(path: Path) -> Forward:
    """Its own runtime. Raises CheckpointError."""
    try:
        method = Runtime.get().load_program(path).load_method("forward")
    except (RuntimeError, OSError) as error:
        raise CheckpointError(
            f"{path} is no program that ExecuTorch can run ({first_line(error)})"
        ) from error

    def forward(images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = method.execute([images.contiguous()])[0]
        return logits.clone()  # the runtime uses the memory again

    return forward


EXECUTORCH = Format(".pte", "executorch", write, read)
