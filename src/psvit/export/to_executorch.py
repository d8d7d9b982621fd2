"""ExecuTorch's .pte, for phones and other small devices.

Convolutions, products and the like are XNNPACK's, the rest are portable operators. ExecuTorch plans
the memory of a run beforehand, so that the number of images has a bound.
"""

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
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower
        from executorch.runtime import Runtime
except ImportError as error:
    raise MissingExtra(
        f"ExecuTorch did not import ({error}): install it with `pip install 'psvit[executorch]'`"
    ) from error

LARGEST = 8
"""Images a run: what its memory is planned for."""


def write(program: ExportedProgram, path: Path) -> Mapping[str, Any]:
    """Raises ModelError for what ExecuTorch cannot say."""
    try:
        with quiet():
            edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
            _check_sizes(edge.exported_program())
            made = edge.to_executorch()
    except ModelError:
        raise
    except Exception as error:  # its passes raise whatever they trip over
        raise ModelError(
            f"ExecuTorch cannot express this model ({type(error).__name__}: {first_line(error)})"
        ) from error
    path.write_bytes(made.buffer)
    return {
        "torch": torch.__version__,
        "executorch": executorch.version.__version__,
        "largest_batch": LARGEST,
    }


def _check_sizes(program: ExportedProgram) -> None:
    """Lowering compares sizes, and may end with fewer that it allows, or with a single one."""
    for sizes in program.range_constraints.values():
        if not sizes.lower < sizes.upper >= LARGEST:
            raise ModelError(
                f"ExecuTorch fixes the number of images at {sizes.lower} to {sizes.upper}, "
                f"expected any up to {LARGEST}: export to another format"
            )


def read(path: Path) -> Forward:
    """Its own runtime; more images than a run can take become several runs.

    Raises CheckpointError.
    """
    try:
        method = Runtime.get().load_program(path).load_method("forward")
    except (RuntimeError, OSError) as error:
        raise CheckpointError(
            f"{path} is no program that ExecuTorch can run ({first_line(error)})"
        ) from error

    def forward(images: torch.Tensor) -> torch.Tensor:
        runs = torch.split(images.contiguous(), LARGEST)
        # The runtime uses the memory of its outputs again.
        return torch.cat([method.execute([piece])[0].clone() for piece in runs])

    return forward


EXECUTORCH = Format(".pte", "executorch", write, read, LARGEST)
