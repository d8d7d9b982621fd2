"""Bad input: one clear line each, before anything long starts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import psvit
from tests.sensitivity.tiny import Tiny


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ((0,), "the grid has the ratio 0,"),
        ((0.5, 1.0), "the grid has the ratio 1.0"),
        ((-0.1,), "above 0 and below 1"),
        ((25,), "for 25 % give 0.25"),
        ((float("nan"),), "the grid has the ratio nan"),
        (("a lot",), "the grid has the ratio 'a lot'"),
        ((True,), "the grid has the ratio True"),
        ((), "the grid is empty"),
    ],
)
def test_grid(spiking: Tiny, grid, words: str) -> None:
    with pytest.raises(psvit.OptionError, match=words):
        spiking.analyse(grid=grid)


@pytest.mark.parametrize("n", [0, 1, -3, 2.5, True])
def test_number_of_images_that_means_nothing(spiking: Tiny, n) -> None:
    with pytest.raises(psvit.OptionError, match=f"the number of images is {n!r}"):
        spiking.analyse(n=n)


def test_more_images_than_there_are(spiking: Tiny) -> None:
    with pytest.raises(psvit.DataError, match=r"is to use 6 images, the data has 5: .* at most 5"):
        spiking.analyse(n=6)


def test_accuracy_without_labels(spiking: Tiny) -> None:
    images = [x for x, _ in spiking.batches]
    for batches in (images, [(x,) for x in images], [(x, x.flatten(1)) for x in images]):
        with pytest.raises(psvit.OptionError, match=r"accuracy is asked for, .* labels=False"):
            spiking.analyse(batches=batches)
        assert spiking.analyse(batches=batches, labels=False).dense.accuracy is None


def test_labels_outside_the_classes(spiking: Tiny) -> None:
    batches = [(x, y + 5) for x, y in spiking.batches]
    with pytest.raises(psvit.DataError, match=r"but the model has 5 classes \(0 to 4\)"):
        spiking.analyse(batches=batches)


def test_batches_of_another_form(spiking: Tiny) -> None:
    for batches in ([{"image": 1}], ["x"], [()]):
        with pytest.raises(psvit.DataError, match="expected \\(images, labels\\)"):
            spiking.analyse(batches=batches)


def test_images_that_the_model_does_not_take(spiking: Tiny) -> None:
    with pytest.raises(psvit.ModelError, match="fails on an input of shape"):
        spiking.analyse(batches=[(torch.rand(5, 3, 8, 8), torch.zeros(5, dtype=torch.int64))])


def test_scores_of_other_groups(spiking: Tiny) -> None:
    with pytest.raises(psvit.OptionError, match="compute the saliency on these groups"):
        psvit.sensitivity(spiking.graph, spiking.groups, {}, spiking.batches, n=5)


def test_a_model_of_which_nothing_can_go(spiking: Tiny) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 5))
    graph = psvit.capture(model, spiking.batches[0][0])
    groups = psvit.find_groups(graph)
    with pytest.raises(psvit.ModelError, match="no group of channels of this model can be pruned"):
        psvit.sensitivity(graph, groups, psvit.saliency(graph, groups), spiking.batches, n=5)


def test_logits_that_are_not_finite(spiking: Tiny) -> None:
    batches = [(x * float("nan"), y) for x, y in spiking.batches]

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(64, 8), nn.Linear(8, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(torch.relu(self.a(x.flatten(1))))

    graph = psvit.capture(Net(), spiking.batches[0][0])
    groups = psvit.find_groups(graph)
    with pytest.raises(psvit.ModelError, match="a logit is NaN or infinite"):
        psvit.sensitivity(graph, groups, psvit.saliency(graph, groups), batches, n=5)


def test_a_recording_of_one_batch_size_only(spiking: Tiny) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(64, 8), nn.Linear(8, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            share = float(torch.ones(x.shape[0]).sum())  # read from data: a constant of the graph
            return self.b(torch.relu(self.a(x.flatten(1) / share)))

    graph = psvit.capture(Net(), spiking.batches[0][0][:2])
    groups = psvit.find_groups(graph)
    with pytest.raises(psvit.ModelError, match="does not reproduce it on batches of 3 images"):
        psvit.sensitivity(graph, groups, psvit.saliency(graph, groups), spiking.batches, n=5)


def test_a_bound_on_accuracy_without_labels_is_refused_before_the_analysis(
    spiking: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [x for x, _ in spiking.batches]
    monkeypatch.setattr("psvit.guidance.sensitivity", None)
    for options in ({"max_drop": 0.1}, {"min_accuracy": 0.5}):
        with pytest.raises(psvit.OptionError, match="yields images without labels"):
            psvit.prune(spiking.model, images[0][:2], method="psvit", data=images, n=3, **options)
