"""The dense model that a pruned one came from, with the weights that it was pruned with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from psvit.artefacts import load_weights
from psvit.cli.inputs import open_model
from psvit.errors import OptionError, OutputError
from psvit.models import MODELS
from psvit.models.load import LoadedModel, load_model
from psvit.records import Source

UNKNOWN = (
    "its weights are not known here: give --checkpoint FILE, or --teacher MODEL with "
    "--checkpoint FILE"
)


def dense_model(
    loaded: LoadedModel,
    teacher: str | None,
    checkpoint: Path | None,
    model_arg: Sequence[str] | None,
    *,
    seed: int,
    needed: bool,
) -> nn.Module | None:
    """The model that ``teacher`` names, or else the original of the plan; None if not ``needed``.

    The original's weights are those of ``checkpoint``, else those that metrics.json says it was
    pruned with, else what its factory gives. Raises OptionError where that gives other weights
    each time, for they cannot be the ones that were pruned.
    """
    if not needed:
        return None
    if teacher is not None:
        return open_model(teacher, model_arg, checkpoint, allow_partial=False, seed=seed).model
    if model_arg:
        raise OptionError("--model-arg goes with --teacher MODEL, which is missing")
    if loaded.source is None:
        raise OptionError("the folder does not say what it was pruned from: give --teacher MODEL")
    checkpoint = checkpoint or _recorded(loaded.metrics or {})
    return _original(loaded.source, checkpoint)


def weights_of(loaded: LoadedModel, checkpoint: Path | None) -> str | None:
    """Where the weights of the original lie, for its folder to remember; None: in the model."""
    if checkpoint is not None:
        return str(checkpoint.resolve())
    told: str | None = (loaded.metrics or {}).get("settings", {}).get("checkpoint")
    return told


def _recorded(metrics: Mapping[str, Any]) -> Path | None:
    """The checkpoint that the original was pruned with."""
    told = metrics.get("settings", {}).get("checkpoint")
    if told is None:
        return None
    if not Path(told).is_file():
        raise OutputError(
            f"the model was pruned with the weights in {told}, which are gone: give them with "
            "--checkpoint FILE"
        )
    return Path(told)


def _original(source: Source, checkpoint: Path | None) -> nn.Module:
    name, given = source.factory, checkpoint is not None
    if name in MODELS and not given and MODELS[name].weights is None:
        raise OptionError(f"the teacher is {name}, which is untrained: {UNKNOWN}")
    model = load_model(name, source.arguments, weights=not given).model
    if checkpoint is not None:
        load_weights(model, checkpoint)
    elif name not in MODELS and not _same_weights(model, source):
        raise OptionError(
            f"the teacher is {name}, which has other weights each time it is built: {UNKNOWN}"
        )
    return model


def _same_weights(model: nn.Module, source: Source) -> bool:
    """Whether building the model again, from another random state, gives the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch.initial_seed() ^ 1)
        again = load_model(source.factory, source.arguments).model.state_dict()
    return all(torch.equal(tensor, again[name]) for name, tensor in model.state_dict().items())
