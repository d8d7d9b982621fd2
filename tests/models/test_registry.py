"""Every named model can be built, and errors about names and arguments say what would do."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import torch

from psvit.data import RECIPES
from psvit.errors import CheckpointError, MissingExtra, ModelError
from psvit.evaluate.accuracy import logits_of
from psvit.models import DEFAULT_MODEL, MODELS, build, find_entry

_NARROW = (8, 8, 16, 16)
SMALL: dict[str, dict[str, Any]] = {
    "spikformer-digits": {"embed_dims": 32, "depths": 1},
    "spikformer-cifar10": {"embed_dims": 32, "depths": 1},
    "sdt-cifar10": {"embed_dims": 32, "depths": 1},
    "meta-spikeformer-cifar10": {"embed_dims": _NARROW, "depths": (1, 1)},
    "meta-spikeformer-15m": {"embed_dims": _NARROW, "num_heads": 4, "depths": (1, 1)},
    "meta-spikeformer-31m": {"embed_dims": _NARROW, "num_heads": 4, "depths": (1, 1)},
    "meta-spikeformer-55m": {"embed_dims": _NARROW, "num_heads": 4, "depths": (1, 1)},
    "e-spikeformer-5m": {"embed_dims": _NARROW, "num_heads": 4, "depths": (1, 1)},
    "e-spikeformer-10m": {"embed_dims": _NARROW, "num_heads": 4, "depths": (1, 1)},
    "e-spikeformer-19m": {"embed_dims": _NARROW, "num_heads": 4, "depths": (1, 1)},
    "spikformer": {"image_size": 32, "embed_dims": 32, "num_heads": 2, "depths": 1},
    "sdt": {"embed_dims": 32, "num_heads": 2, "depths": 1},
    "qkformer-token": {"embed_dims": 32, "num_heads": (2, 2, 2), "depths": (1, 1, 1)},
    "qkformer-channel": {"embed_dims": 32, "num_heads": (2, 2, 2), "depths": (1, 1, 1)},
    "maxformer": {"embed_dims": 64, "depths": (1, 1, 1)},
    "maxformer-cifar": {"embed_dims": 64, "depths": (1, 1, 1)},
}
"""Arguments that make each model small, and nothing else different."""


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("T", [1, 4])
def test_every_model_builds_small_and_classifies(name: str, T: int) -> None:
    entry = MODELS[name]
    steps = {} if name.startswith("e-spikeformer") else {"T": T}  # its neurons need no time
    model = build(name, weights=False, num_classes=7, **steps, **SMALL[name])
    assert not model.training
    assert getattr(model, "T", None) == steps.get("T")
    side = min(32, entry.example[-1])
    x = torch.rand(2, entry.example[1], side, side)
    assert logits_of(model, x).shape == (2, 7)


@pytest.mark.parametrize("name", MODELS)
def test_an_entry_says_what_its_model_is(name: str) -> None:
    entry = MODELS[name]
    with torch.device("meta"):  # full size, without its memory
        model = build(name, weights=False)
        assert next(model.parameters()).shape[1] == entry.example[1]
        assert model.head.out_features == entry.classes
    recipe = RECIPES[entry.recipe]
    assert entry.example[1:] == (recipe.channels, recipe.size, recipe.size)


def test_names_are_their_keys_and_the_default_comes_first() -> None:
    assert [entry.name for entry in MODELS.values()] == list(MODELS)
    assert next(iter(MODELS)) == DEFAULT_MODEL


@pytest.mark.parametrize("attention", ["token", "channel"])
def test_the_two_qkformers_differ_in_their_attention(attention: str) -> None:
    model = build(f"qkformer-{attention}", **SMALL["qkformer-token"])
    assert {b.attn.qka_type for b in [*model.stage1, *model.stage2]} == {attention}


def test_pooling_early_keeps_names_shapes_and_tokens_of_the_stock_stem() -> None:
    from psvit.models.jelly import spikformer

    arguments: dict[str, Any] = {
        "image_size": 32, "patch_size": 4, "embed_dims": 32, "num_heads": 2, "depths": 1
    }  # fmt: skip
    torch.manual_seed(0)
    stock = spikformer(**arguments)
    torch.manual_seed(0)
    early = spikformer(**arguments, pooling="1100").eval()
    stock_state, early_state = stock.state_dict(), early.state_dict()
    assert list(stock_state) == list(early_state)
    assert all(torch.equal(stock_state[k], early_state[k]) for k in stock_state)
    sizes: list[torch.Size] = []
    for module in (early.patch_embed.stages[0], early.patch_embed):
        module.register_forward_hook(lambda m, x, y: sizes.append(y.shape[2:]))
    early(torch.rand(1, 3, 32, 32))
    assert sizes == [(4, 16, 16), (32, 8, 8)]


@pytest.mark.parametrize("pooling", ["110", "11x0", "1110"])
def test_a_pooling_that_does_not_fit_is_refused(pooling: str) -> None:
    with pytest.raises(ModelError, match="pooling"):
        build("spikformer", image_size=32, patch_size=4, pooling=pooling)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ModelError, match=r"'spikfromer'.*spikformer-digits.*maxformer"):
        find_entry("spikfromer")


def test_arguments_that_the_factory_does_not_take_are_named() -> None:
    with pytest.raises(ModelError, match="widht=3"):
        build("sdt", widht=3)


def test_arguments_that_the_model_refuses_are_named() -> None:
    with pytest.raises(ModelError, match="embed_dims=30"):
        build("spikformer", embed_dims=30)


def test_weights_of_another_size_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"spikformer-digits\.safetensors"):
        build("spikformer-digits", embed_dims=32)


def test_listing_models_does_not_import_their_library() -> None:
    code = (
        "import sys, json, psvit.models; "
        "print(json.dumps([m for m in sys.modules if m.startswith('spikingjelly')]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(done.stdout) == []


def test_without_spikingjelly_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spikingjelly", None)
    for module in [m for m in sys.modules if m.startswith("spikingjelly.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delitem(sys.modules, "psvit.models.jelly", raising=False)
    with pytest.raises(MissingExtra, match=r"psvit\[spikingjelly\]"):
        build("sdt")
