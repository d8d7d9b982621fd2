"""The models that have a name: what to call, what to feed, where trained weights lie.

Importing this file imports no model library; building an entry does.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from psvit.errors import CheckpointError, ModelError

_WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class ModelEntry:
    """A model that can be asked for by name.

    ``factory`` is "module:function", whose keyword arguments all have defaults. ``example`` is
    the shape ``[B, C, H, W]`` it is traced at, ``data`` and ``recipe`` the data and preprocessing
    it is meant for (``data`` None: images in the ImageNet layout, which the user has to give).
    ``weights`` is the name of the trained weights that the package ships, without suffix.
    """

    name: str
    factory: str
    description: str
    example: tuple[int, ...]
    classes: int
    data: str | None
    recipe: str
    weights: str | None = None

    @property
    def weights_path(self) -> Path | None:
        """The safetensors file with the trained weights; None for an untrained model."""
        return None if self.weights is None else _WEIGHTS / f"{self.weights}.safetensors"

    @property
    def card_path(self) -> Path | None:
        """The JSON file that says how the weights came about and how good they are."""
        return None if self.weights is None else _WEIGHTS / f"{self.weights}.json"


_JELLY = "psvit.models.jelly"
_META = "psvit.models.meta_spikeformer"
_INTEGER = "psvit.models.e_spikeformer"
_IMAGENET = ((1, 3, 224, 224), 1000, None)

_ENTRIES = (
    ModelEntry(
        "spikformer-digits",
        f"{_JELLY}:spikformer_digits",
        "Spikformer-2-64 of SpikingJelly, trained on scikit-learn's digits (the default)",
        (1, 1, 16, 16),
        10,
        "digits",
        "digits",
        weights="spikformer-digits",
    ),
    ModelEntry(
        "spikformer-cifar10",
        f"{_JELLY}:spikformer_cifar10",
        "Spikformer-2-192 of SpikingJelly, trained on CIFAR-10, 64 tokens",
        (1, 3, 32, 32),
        10,
        "parquet:GLOB",
        "cifar10",
        weights="spikformer-cifar10",
    ),
    ModelEntry(
        "sdt-cifar10",
        f"{_JELLY}:sdt_cifar10",
        "Spike-driven Transformer 2-192 of SpikingJelly, trained on CIFAR-10, 64 tokens",
        (1, 3, 32, 32),
        10,
        "parquet:GLOB",
        "cifar10",
        weights="sdt-cifar10",
    ),
    ModelEntry(
        "meta-spikeformer-cifar10",
        f"{_META}:meta_spikeformer_cifar10",
        "Meta-SpikeFormer (SDT-v2) of 2.0M parameters, trained on CIFAR-10, 64 tokens",
        (1, 3, 32, 32),
        10,
        "parquet:GLOB",
        "cifar10",
        weights="meta-spikeformer-cifar10",
    ),
    ModelEntry(
        "meta-spikeformer-15m",
        f"{_META}:meta_spikeformer_15m",
        "Meta-SpikeFormer (SDT-v2), 15.1M parameters, takes the authors' checkpoints, untrained",
        *_IMAGENET,
        "sdt-v2",
    ),
    ModelEntry(
        "meta-spikeformer-31m",
        f"{_META}:meta_spikeformer_31m",
        "Meta-SpikeFormer (SDT-v2), 31.3M parameters, takes the authors' checkpoints, untrained",
        *_IMAGENET,
        "sdt-v2",
    ),
    ModelEntry(
        "meta-spikeformer-55m",
        f"{_META}:meta_spikeformer_55m",
        "Meta-SpikeFormer (SDT-v2), 55.4M parameters, takes the authors' checkpoints, untrained",
        *_IMAGENET,
        "sdt-v2",
    ),
    ModelEntry(
        "e-spikeformer-5m",
        f"{_INTEGER}:e_spikeformer_5m",
        "E-SpikeFormer (SDT-v3), 5.1M parameters, takes the authors' checkpoints, untrained",
        *_IMAGENET,
        "sdt-v3",
    ),
    ModelEntry(
        "e-spikeformer-10m",
        f"{_INTEGER}:e_spikeformer_10m",
        "E-SpikeFormer (SDT-v3), 10.0M parameters, takes the authors' checkpoints, untrained",
        *_IMAGENET,
        "sdt-v3",
    ),
    ModelEntry(
        "e-spikeformer-19m",
        f"{_INTEGER}:e_spikeformer_19m",
        "E-SpikeFormer (SDT-v3), 19.0M parameters, takes the authors' checkpoints, untrained",
        *_IMAGENET,
        "sdt-v3",
    ),
    ModelEntry(
        "spikformer",
        f"{_JELLY}:spikformer",
        "Spikformer-6-384 (spikformer_s of SpikingJelly), ImageNet size, untrained",
        (1, 3, 224, 224),
        1000,
        None,
        "spikformer",
    ),
    ModelEntry(
        "sdt",
        f"{_JELLY}:spike_driven_transformer",
        "Spike-driven Transformer 8-384 of SpikingJelly, ImageNet size, untrained",
        (1, 3, 224, 224),
        1000,
        None,
        "sdt",
    ),
    ModelEntry(
        "qkformer-token",
        f"{_JELLY}:qkformer",
        "QKFormer-10-384 of SpikingJelly, Q-K token attention, ImageNet size, untrained",
        (1, 3, 224, 224),
        1000,
        None,
        "qkformer",
    ),
    ModelEntry(
        "qkformer-channel",
        f"{_JELLY}:qkformer_channel",
        "QKFormer-10-384 of SpikingJelly, Q-K channel attention, ImageNet size, untrained",
        (1, 3, 224, 224),
        1000,
        None,
        "qkformer",
    ),
    ModelEntry(
        "maxformer",
        f"{_JELLY}:maxformer",
        "MaxFormer-10-384 of SpikingJelly, ImageNet size, untrained",
        (1, 3, 224, 224),
        1000,
        None,
        "imagenet",
    ),
    ModelEntry(
        "maxformer-cifar",
        f"{_JELLY}:maxformer_cifar",
        "MaxFormer-4-384 of SpikingJelly for 32x32 images, 100 classes, untrained",
        (1, 3, 32, 32),
        100,
        None,
        "cifar10",
    ),
)

MODELS: dict[str, ModelEntry] = {entry.name: entry for entry in _ENTRIES}
"""Every model that has a name, the embedded default first."""

DEFAULT_MODEL = "spikformer-digits"


def find_entry(name: str) -> ModelEntry:
    """The entry of this name. Raises ModelError that lists the names there are."""
    try:
        return MODELS[name]
    except KeyError:
        raise ModelError(
            f"no model is named {name!r}: expected one of {', '.join(MODELS)}, "
            "or package.module:factory"
        ) from None


def build(name: str, *, weights: bool = True, **arguments: Any) -> nn.Module:
    """Build a named model in eval mode, with its trained weights where the package ships some.

    ``arguments`` go to the factory (``T=1``, ``num_classes=100``, ...); ``weights=False`` gives
    a fresh initialisation. Raises MissingExtra without the model's library, ModelError for a
    name or arguments that do not fit, CheckpointError if weights and model do not match.
    """
    entry = find_entry(name)
    module, function = entry.factory.split(":")
    factory = getattr(importlib.import_module(module), function)
    try:
        model: nn.Module = factory(**arguments)
    except (TypeError, ValueError) as error:
        given = ", ".join(f"{k}={v!r}" for k, v in arguments.items()) or "no arguments"
        raise ModelError(f"{name} cannot be built with {given}: {error}") from error
    if weights and entry.weights_path is not None:
        _load(model, entry.weights_path)
    return model.eval()


def _load(model: nn.Module, path: Path) -> None:
    from safetensors.torch import load_file

    try:
        model.load_state_dict(load_file(path))
    except (OSError, RuntimeError) as error:
        lines = [line.strip() for line in str(error).splitlines()]
        reason = next((line for line in lines[1:] if line), lines[0])[:200]
        raise CheckpointError(
            f"{path.name} does not fit the model ({reason}): "
            "build it with the factory's own arguments, or without weights"
        ) from error
