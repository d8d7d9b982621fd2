"""What the report says of a fine-tuning."""

from __future__ import annotations

from html import unescape
from typing import Any

import pytest

from psvit.finetune import Tuning
from psvit.finetune.run import Tuned
from psvit.report.finetuning import finetuning_section
from psvit.train import Score
from tests.finetune.tiny import dense_model

LOG = (
    {"step": 0, "epoch": 0.0, "held_out_accuracy": 0.5, "held_out_loss": 0.75, "seconds": 0.0},
    {"step": 5, "epoch": 1.0, "loss": 0.5, "held_out_accuracy": 0.625, "held_out_loss": 0.5,
     "seconds": 60.0},
)  # fmt: skip
FROZEN = "Batch norms kept the statistics that they had."
MATCHED = "matched to the dense model's, which did better still: held-out loss 0.4375."


def _told(**more: Any) -> dict[str, Any]:
    return Tuned(dense_model(), dense_model(), Tuning(), LOG, 40, 10, **more).summary()


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("matched", [False, True])
def test_what_became_of_statistics_is_told(frozen: bool, matched: bool) -> None:
    score = Score(0.6875, 0.4375) if matched else None
    told = _told(norms="frozen" if frozen else "batch", matched=score)
    page = unescape(finetuning_section(told))
    assert (FROZEN in page, MATCHED in page) == (frozen, matched)
    assert told["held_out_loss"] == (0.4375 if matched else 0.5)
    assert "The weights of epoch 1 did best on 10 training images held out" in page
    assert "1 (kept)" in page


def test_nothing_is_told_where_nothing_was_tuned() -> None:
    assert finetuning_section({}) == ""
