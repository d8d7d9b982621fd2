"""Several processes train as one: the same images, the same weights, nearly the same loss."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from psvit.train import TrainConfig, fit
from tests.train.processes import two_of
from tests.train.small import small_data

CONFIG = TrainConfig(epochs=2, batch=8, lr=1e-2, log_steps=1, seed=3, weight_decay=0.0)


def linear() -> torch.nn.Module:
    """No batch norm and no dropout: what one process sees is then what two see."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 3))


@pytest.mark.thorough  # three times the start of Python and torch
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="accelerate trains on several devices")
    expected = fit(linear(), small_data(), CONFIG)
    found = two_of("tests.train.together", str(tmp_path / "run"))
    assert found[0]["weights"] == found[1]["weights"]
    losses = [line["loss"] for line in found[0]["lines"]]
    assert losses == pytest.approx([line["loss"] for line in expected], rel=1e-5)
    assert [line["accuracy"] for line in found[0]["lines"]] == [x["accuracy"] for x in expected]
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == len(expected)
