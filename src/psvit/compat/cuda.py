"""``.cuda()`` on a machine without a GPU: some constructors call it outright."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from psvit.compat.standins import StandIns


@contextmanager
def cuda_stays_here(report: StandIns) -> Iterator[None]:
    """While open and without a GPU, ``tensor.cuda()`` and ``module.cuda()`` change nothing."""
    if torch.cuda.is_available():
        yield
        return

    def cuda(self: Any, *args: Any, **kwargs: Any) -> Any:
        report.note(".cuda()", "ignored, no GPU is available here")
        return self

    kept = [(kind, kind.cuda) for kind in (torch.Tensor, nn.Module)]
    for kind, _ in kept:
        kind.cuda = cuda  # type: ignore[method-assign]
    try:
        yield
    finally:
        for kind, original in kept:
            kind.cuda = original  # type: ignore[method-assign]
