"""The schedule has the shape it is described with, and settings that mean nothing are refused."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from psvit.errors import OptionError
from psvit.train import Augment, Score, TrainConfig
from psvit.train.config import learning_rate, total_steps


def test_the_rate_rises_linearly_then_falls_as_half_a_cosine() -> None:
    config = TrainConfig(epochs=10, lr=1.0, warmup=2, floor=0.1)
    rates = [learning_rate(config, step, 5) for step in range(50)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert rates[10] == pytest.approx(1.0)
    assert rates[30] == pytest.approx(0.55)
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    assert rates[-1] == pytest.approx(0.1, abs=0.01)


def test_a_run_has_at_least_one_step_and_warms_up_for_half_of_it_at_most() -> None:
    assert total_steps(TrainConfig(epochs=0.001), 10) == 1
    assert total_steps(TrainConfig(epochs=0), 10) == 0
    config = TrainConfig(epochs=0.4, lr=1.0, warmup=5)
    assert [learning_rate(config, step, 10) for step in range(2)] == pytest.approx([0.5, 1.0])


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": -0.5},
        {"epochs": float("nan")},
        {"batch": -1},
        {"lr": float("inf")},
        {"label_smoothing": 1.0},
        {"ema": -0.1},
        {"clip": -1},
        {"seed": -1},
        {"early_T": 2},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_settings_that_mean_nothing_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=f"{next(iter(wrong))} is"):
        TrainConfig(**wrong)


@pytest.mark.parametrize("wrong", [{"crop": -1}, {"erase": 2.0}, {"mixup": float("nan")}], ids=str)
def test_augmentation_that_means_nothing_is_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=f"{next(iter(wrong))} is"):
        Augment(**wrong)


def test_of_two_scores_the_lower_loss_is_better_and_without_losses_the_accuracy() -> None:
    assert Score(0.90, 0.10).beats(Score(0.91, 0.11))
    assert Score(0.91, 0.10).beats(Score(0.90, 0.10))
    assert not Score(0.90, 0.10).beats(Score(0.90, 0.10))
    assert Score(0.91).beats(Score(0.90))
    assert Score(loss=0.1).beats(Score(loss=0.2))
    assert Score(0.1).beats(None)
