"""Statistics of batch norms: kept where they are good, taken of batches where they are not."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from psvit.errors import OptionError
from psvit.finetune import Tuning, finetune
from psvit.finetune.norms import statistics_are_good
from psvit.recover import norms_of
from psvit.train import Score
from tests.finetune.tiny import TUNING, data, dense_model, pruned


def _statistics(model: nn.Module) -> torch.Tensor:
    return torch.cat(
        [t for norm in norms_of(model).values() for t in (norm.running_mean, norm.running_var)]
    )


def _tuning(norms: str) -> Tuning:
    return dataclasses.replace(TUNING, norms=norms, lr=1e-3)


@pytest.mark.parametrize("norms", ["frozen", "batch"])
def test_frozen_statistics_stay_and_others_move(norms: str) -> None:
    dense = dense_model()
    small = pruned(dense)
    before, weights = _statistics(small), [p.detach().clone() for p in small.parameters()]
    tuned = finetune(small, dense, data(), _tuning(norms))
    assert tuned.norms == tuned.summary()["norms"] == norms
    best = tuned.summary()["kept_step"]
    assert best > 0
    assert torch.equal(_statistics(small), before) == (norms == "frozen")
    assert not any(map(torch.equal, small.parameters(), weights))


def test_frozen_norms_train_on_the_function_that_is_kept() -> None:
    """Where nothing was removed there is nothing to learn, unless norms go by the batch."""
    dense = dense_model()
    dense[7].p = 0.0
    for norms, still in (("frozen", True), ("batch", False)):
        same = copy.deepcopy(dense)
        tuned = finetune(same, dense, data(), dataclasses.replace(_tuning(norms), weight_decay=0))
        losses = [line["loss"] for line in tuned.log if "loss" in line]
        assert (max(losses) < 1e-6) == still


def test_auto_keeps_good_statistics_and_replaces_bad_ones() -> None:
    dense = dense_model()
    good = copy.deepcopy(dense)
    assert finetune(good, dense, data(), _tuning("auto")).norms == "frozen"
    bad = copy.deepcopy(dense)
    bad[1].running_var.mul_(25)
    assert finetune(bad, dense, data(), _tuning("auto")).norms == "batch"


def test_looking_leaves_the_student_as_it_was() -> None:
    student = dense_model()
    student[1].running_mean.add_(3)
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    seen: list[torch.Tensor] = []

    def monitor(model: nn.Module) -> Score:
        assert not model.training
        seen.append(_statistics(model))
        return Score(loss=float(len(seen)))

    def fresh() -> Iterator[torch.Tensor]:
        return (images for images, _ in data().plain(10))

    assert statistics_are_good(student, monitor, fresh())
    assert not torch.equal(seen[0], seen[1])
    assert all(torch.equal(tensor, before[k]) for k, tensor in student.state_dict().items())
    assert not statistics_are_good(student, lambda m: Score(loss=-float(len(seen))), fresh())
    assert not statistics_are_good(student, None, fresh())
    assert not statistics_are_good(nn.Sequential(nn.Linear(2, 2)), monitor, fresh())


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(OptionError, match="norms are 'running', expected one of auto, batch"):
        Tuning(norms="running")
