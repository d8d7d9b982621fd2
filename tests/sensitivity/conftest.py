"""Exactness is judged in float64; the tiny model is made once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.sensitivity.tiny import Tiny, tiny
from tests.zoo.case import float64


@pytest.fixture(autouse=True)
def _double_precision() -> Iterator[None]:
    with float64(), torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="session")
def spiking() -> Tiny:
    """The tiny spiking model; not to be changed by a test."""
    return tiny()
