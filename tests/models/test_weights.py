"""The weights that the package ships are those that their cards describe."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from psvit.data import Recipe, open_data
from psvit.evaluate import accuracy, wilson
from psvit.models import MODELS, build

SHIPPED = [name for name, entry in MODELS.items() if entry.weights]
MOST_BYTES = {"spikformer-digits": 1_500_000}


def _card(name: str) -> dict[str, Any]:
    path = MODELS[name].card_path
    assert path is not None
    card: dict[str, Any] = json.loads(path.read_text())
    return card


@pytest.mark.parametrize("name", SHIPPED)
def test_weights_fit_their_model_strictly(name: str) -> None:
    path = MODELS[name].weights_path
    assert path is not None
    assert path.stat().st_size <= MOST_BYTES.get(name, 8 * 2**20)
    weights = load_file(path)
    model = build(name)
    assert set(weights) == set(model.state_dict())
    assert all(torch.equal(weights[k], v) for k, v in model.state_dict().items())
    assert _card(name)["params"] == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", SHIPPED)
def test_a_card_holds_its_own_interval_and_no_place_of_a_machine(name: str) -> None:
    card = _card(name)
    figures = card["eval"]
    assert figures["accuracy"] == figures["correct"] / figures["n"]
    assert (figures["low_95"], figures["high_95"]) == wilson(figures["correct"], figures["n"])
    assert "/" not in card["command"] + card["data"]


def test_the_digits_reach_the_accuracy_on_their_card() -> None:
    name = "spikformer-digits"
    card = _card(name)
    recipe = Recipe.from_dict(card["recipe"])
    batches = open_data("digits", split="eval", recipe=recipe, batch_size=90)
    result = accuracy(build(name), batches)
    assert (result.correct, result.n) == (card["eval"]["correct"], card["eval"]["n"])
    assert result.top1 >= 0.97
