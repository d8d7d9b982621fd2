"""The main job on real data: prune, evaluate, save, load, train a step, prune again, load again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

import psvit
from psvit.data import RECIPES, open_data
from psvit.evaluate import accuracy
from psvit.models.load import load_model
from psvit.neurons import reset_state

PLACE = Path(os.environ.get("PSVIT_DATA", Path(__file__).parents[2] / "shared" / "data"))


def _cifar10() -> str:
    if not list(PLACE.glob("cifar10-*.parquet")):
        pytest.skip(f"no CIFAR-10 in {PLACE}: set PSVIT_DATA to the folder that holds its parquet")
    return f"parquet:{PLACE}/cifar10-*.parquet"


def _train_step(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """One step of plain SGD; returns the loss before it."""
    model.train()
    reset_state(model)
    logits = model(images)
    logits = logits.mean(0) if logits.ndim == 3 else logits
    loss = nn.functional.cross_entropy(logits, labels)
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter -= 0.01 * parameter.grad
            parameter.grad = None
    model.eval()
    reset_state(model)
    return float(loss.detach())


@pytest.mark.parametrize(
    ("name", "source"), [("spikformer-digits", None), ("sdt-cifar10", _cifar10)]
)
def test_prune_evaluate_load_train_and_prune_again(
    name: str, source: object, tmp_path: Path
) -> None:
    spec = source() if callable(source) else "digits"
    recipe = RECIPES["cifar10"] if callable(source) else None
    train = open_data(spec, split="train", recipe=recipe, limit=32, batch_size=32)
    test = open_data(spec, split="eval", recipe=recipe, limit=64, batch_size=64)
    images, labels = next(iter(train))
    dense = load_model(name)

    first = psvit.prune(dense.model, images[:2], save={"memory": 0.224}, source=dense.source)
    assert first.after.memory_bytes <= (1 - 0.224) * first.before.memory_bytes
    psvit.save(first, tmp_path / "first")
    small = psvit.load(tmp_path / "first")
    assert accuracy(small, test) == accuracy(first.model, test)

    before = [p.detach().clone() for p in small.parameters()]
    assert _train_step(small, images, labels) > 0
    assert any(not torch.equal(a, b) for a, b in zip(before, small.parameters(), strict=True))

    second = psvit.prune(small, images[:2], save={"params": 0.2})
    psvit.save(second, tmp_path / "second")
    smaller = psvit.load(tmp_path / "second")
    for key, value in second.model.state_dict().items():
        assert torch.equal(value, smaller.state_dict()[key])
    reset_state(smaller)
    reset_state(second.model)
    with torch.no_grad():
        assert torch.equal(smaller(images), second.model(images))
    sizes = [sum(p.numel() for p in m.parameters()) for m in (dense.model, small, smaller)]
    assert sizes[0] > sizes[1] > sizes[2]
