"""Statistics of batch norms: kept where they are good, taken of batches where they are not."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from psvit.artefacts import plan_of
from psvit.errors import OptionError
from psvit.finetune import Tuning, finetune
from psvit.finetune.data import split
from psvit.finetune.distill import Distillation
from psvit.finetune.norms import match_if_better, statistics_are_good
from psvit.recover import norms_of
from psvit.train import Devices, Score
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


def test_statistics_end_matched_if_that_is_better_on_images_held_out() -> None:
    dense = dense_model()
    tuning = _tuning("auto")
    tuned = finetune(pruned(dense), dense, data(), tuning)
    held_out = split(data(), tuning).held_out
    assert held_out is not None
    again = Distillation(tuned.model, tuned.teacher, tuning).score(
        tuned.model, held_out(), labelled=True
    )
    summary = tuned.summary()
    assert tuned.matched == again == Score(summary["held_out_accuracy"], summary["held_out_loss"])
    best = min(line["held_out_loss"] for line in tuned.log if "held_out_loss" in line)
    assert again.loss < best
    assert summary["matched"]
    other = finetune(pruned(dense), dense, data(), tuning, norms=tuned.norms)
    assert (other.matched, other.summary()["matched"]) == (None, False)
    assert other.summary()["held_out_loss"] == best


def test_matched_norms_put_out_what_the_teacher_s_do() -> None:
    """Mean and deviation of each kept channel, on the images that they are matched on."""
    dense = dense_model()
    student = pruned(dense)
    plan = plan_of(student)
    assert plan is not None
    with torch.no_grad():
        student.get_parameter("0.weight").mul_(1.7)
    images = [torch.cat([batch for batch, _ in data().plain(10)])]
    first_norm = nn.Sequential(student.get_submodule("0"), student.get_submodule("1"))

    def judged(loss: float) -> Score | None:
        said = Score(0.5, loss)
        found = match_if_better(
            student,
            dense,
            plan,
            images,
            lambda m: said,
            Score(0.5, 1.0),
            Devices(torch.device("cpu")),
        )
        assert found in (said, None)
        return found

    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    assert judged(1.1) is None
    assert all(torch.equal(tensor, before[k]) for k, tensor in student.state_dict().items())
    kept = list(plan.keep["1.weight"]["0"])
    with torch.no_grad():
        there, here = dense[:2](images[0])[:, kept], first_norm(images[0])
        assert not torch.allclose(here.mean((0, 2, 3)), there.mean((0, 2, 3)), atol=1e-2)
        assert judged(0.9) is not None
        here = first_norm(images[0])
    for figure in (torch.Tensor.mean, torch.Tensor.std):
        torch.testing.assert_close(
            figure(here, (0, 2, 3)), figure(there, (0, 2, 3)), atol=1e-3, rtol=0
        )
    assert torch.equal(student.get_parameter("0.weight"), before["0.weight"])


def test_nothing_is_matched_to_norms_that_the_teacher_lacks() -> None:
    dense = dense_model()
    student = pruned(dense)
    plan = plan_of(student)
    assert plan is not None
    images = [batch for batch, _ in data().plain(10)]
    place = Devices(torch.device("cpu"))
    seen: list[nn.Module] = []

    def monitor(model: nn.Module) -> Score:
        seen.append(model)
        return Score(1.0, 0.0)

    without, narrower = copy.deepcopy(dense), copy.deepcopy(student)
    without[1] = nn.Identity()
    for teacher in (without, narrower):
        assert (
            match_if_better(student, teacher, plan, images, monitor, Score(0.0, 1.0), place) is None
        )
    assert seen == []
    assert (
        match_if_better(student, dense, plan, images, monitor, Score(0.0, 1.0), place) is not None
    )


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(OptionError, match="norms are 'running', expected one of auto, batch"):
        Tuning(norms="running")
