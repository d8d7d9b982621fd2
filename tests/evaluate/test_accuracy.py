"""Accuracy against answers that are known by construction."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from psvit.errors import DataError, ModelError
from psvit.evaluate import Accuracy, accuracy
from psvit.evaluate.parts import FEWEST, IMAGES, part_size


class Oracle(nn.Module):
    """The first pixel of an image is the class it is given; `shape` dresses the logits."""

    def __init__(self, shape: str = "BK", classes: int = 12) -> None:
        super().__init__()
        self.shape, self.classes = shape, classes
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor):
        guess = x[:, 0, 0, 0].long()
        # Classes after the guess, cyclically, are the second guess, the third, ...
        order = (torch.arange(self.classes) - guess[:, None]) % self.classes
        logits = -order.float() * self.scale
        if self.shape == "TBK":
            # Each step alone guesses wrongly; only the mean over T is right.
            noise = torch.zeros(2, *logits.shape)
            noise[0, :, 3], noise[1, :, 3] = 1e3, -1e3
            return logits + noise
        return (logits, {"hook": None}) if self.shape == "tuple" else logits


def batches(guesses, labels, size=4):
    images = torch.tensor(guesses, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    labels = torch.tensor(labels)
    return [(images[i : i + size], labels[i : i + size]) for i in range(0, len(labels), size)]


GUESSES = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
LABELS = [0, 1, 2, 3, 4, 5, 7, 11, 1, 8]  # six right; 7 and 11 within five guesses, 1 and 8 not


@pytest.mark.parametrize("shape", ["BK", "TBK", "tuple"])
def test_known_counts_for_every_shape_of_logits(shape):
    got = accuracy(Oracle(shape), batches(GUESSES, LABELS))
    assert (got.correct, got.n) == (6, 10)
    assert got.top1 == 0.6
    if shape != "TBK":
        assert got.correct_top5 == 8
    assert got.interval == pytest.approx((0.3127, 0.8318), abs=1e-4)


def test_top5_only_from_ten_classes_on():
    assert accuracy(Oracle(classes=10), batches([0], [1])).correct_top5 == 1
    few = accuracy(Oracle(classes=9), batches([0], [1]))
    assert few == Accuracy(0, 1, None)
    assert few.top5 is None


class Counter(nn.Module):
    """A neuron that remembers: right only on the first batch after a reset."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0
        self.resets = 0

    def reset(self) -> None:
        self.seen, self.resets = 0, self.resets + 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += 1
        return torch.eye(2)[torch.full((len(x),), self.seen - 1)]


def test_state_is_reset_between_batches_and_at_the_end():
    neuron = Counter()
    neuron.seen = 5
    assert accuracy(neuron, batches([0] * 8, [0] * 8)).correct == 8
    assert neuron.seen == 0


def test_mode_gradients_and_weights_are_as_before():
    model = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(4, 3))
    model[1].eval()  # frozen on purpose: a mixed state must survive
    before = {k: v.clone() for k, v in model.state_dict().items()}
    accuracy(model, batches([0, 1, 2, 3, 4], [0, 1, 2, 0, 1]))
    assert model.training
    assert not model[1].training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_mode_is_restored_when_the_forward_fails():
    model = nn.Linear(3, 2)
    with pytest.raises(ModelError, match=r"shape \[4, 1, 2, 2\], float32: mat1 and mat2"):
        accuracy(model, batches(GUESSES, LABELS))
    assert model.training


def test_progress_counts_batches():
    seen = []
    accuracy(
        Oracle(), batches(GUESSES, LABELS), progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]
    seen.clear()
    accuracy(Oracle(), iter(batches(GUESSES, LABELS)), progress=lambda d, t: seen.append((d, t)))
    assert seen[-1] == (3, None)


@pytest.mark.parametrize("label", [12, -1])
def test_labels_outside_the_classes(label):
    with pytest.raises(DataError, match=rf"label is {label}, but the model has 12 classes"):
        accuracy(Oracle(), batches([0, 1], [0, label]))


def test_data_of_another_form():
    with pytest.raises(DataError, match="no images"):
        accuracy(Oracle(), [])
    with pytest.raises(DataError, match=r"yields a Tensor: expected \(images, labels\)"):
        accuracy(Oracle(), [torch.zeros(2, 1, 2, 2)])
    with pytest.raises(DataError, match=r"labels have shape \[2, 3\]"):
        accuracy(Oracle(), [(torch.zeros(2, 1, 2, 2), torch.zeros(2, 3))])


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (lambda x: {"logits": x}, "returns a dict"),
        (lambda x: torch.zeros(3, 5, 7), r"shape \[3, 5, 7\] for 2 images"),
        (lambda x: torch.zeros(3, 7), r"shape \[3, 7\] for 2 images"),
    ],
)
def test_output_that_is_no_logits(output, words):
    class Odd(nn.Module):
        def forward(self, x):
            return output(x)

    with pytest.raises(ModelError, match=words):
        accuracy(Odd(), [(torch.zeros(2, 1, 2, 2), torch.zeros(2).long())])


@pytest.mark.parametrize("images", [0, 1, 31, 360, 10_000, 50_000, 1_281_167])
def test_parts_are_small_and_many(images: int) -> None:
    size = part_size(images)
    assert 1 <= size <= IMAGES
    assert images // size >= min(images, FEWEST)
