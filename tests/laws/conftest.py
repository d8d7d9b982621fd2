"""The laws are judged in float64, also for tensors that a forward creates without a dtype."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.zoo.case import float64


@pytest.fixture(autouse=True)
def _double_precision() -> Iterator[None]:
    with float64(), torch.random.fork_rng():
        torch.manual_seed(0)
        yield
