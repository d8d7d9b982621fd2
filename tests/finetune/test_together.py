"""Several processes fine-tune as one, and end with the same weights and the same statistics."""

from __future__ import annotations

import pytest

from tests.train.processes import two_of


@pytest.mark.thorough  # twice the start of Python and torch
def test_two_processes_end_with_the_same_matched_statistics() -> None:
    pytest.importorskip("accelerate", reason="accelerate trains on several devices")
    one, other = two_of("tests.finetune.together")
    assert one == other
    assert one["matched"] is not None
