"""From options to a model, its data and an example input: what every subcommand starts with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from psvit.artefacts import load_weights
from psvit.cli.console import note
from psvit.cli.options import parse_shape
from psvit.data import (
    RECIPES,
    Batches,
    Recipe,
    Split,
    check_classes,
    check_shape,
    has_columns,
    is_prepared,
    make_recipe,
    open_data,
    parse_channels,
)
from psvit.errors import ModelError, OptionError
from psvit.evaluate.accuracy import logits_of
from psvit.models import MODELS
from psvit.models.load import LoadedModel, load_model, parse_arguments
from psvit.neurons import reset_state
from psvit.records import Curves
from psvit.sensitivity import check_data, read_curves
from psvit.team import own_device, team_size

EXAMPLE_BATCH = 2
"""Two images tell an axis of the batch from one that merely has size 1."""


@dataclass(frozen=True)
class DataOptions:
    """How a data set is to be read, as the options say it."""

    recipe: Recipe | None = None
    skip_bad: bool = False
    limit: int | None = None
    batch_size: int = 64
    workers: int = 0
    seed: int = 0
    image_column: str | None = None
    label_column: str | None = None

    def open(
        self,
        spec: str,
        split: Split,
        *,
        only: bool,
        limit: int | None = None,
        shuffle: bool = False,
    ) -> Batches:
        """The batches of one split; `only` as in `open_data`."""
        return open_data(
            spec,
            split=split,
            recipe=self.recipe if is_prepared(spec) else None,
            batch_size=self.batch_size,
            workers=self.workers,
            seed=self.seed,
            limit=limit,
            shuffle=shuffle,
            skip_bad=self.skip_bad,
            only=only,
            image_column=self.image_column if has_columns(spec) else None,
            label_column=self.label_column if has_columns(spec) else None,
        )

    def with_recipe_of(self, loaded: LoadedModel, spec: str) -> DataOptions:
        """With the preprocessing that MODEL was pruned with, or is meant for, if none is said."""
        if self.recipe is not None:
            return self
        stored = (loaded.metrics or {}).get("settings", {}).get("recipe")
        if stored is not None:
            return replace(self, recipe=Recipe.from_dict(stored))
        name = MODELS[spec].recipe if spec in MODELS else ""
        return replace(self, recipe=RECIPES[name]) if name in RECIPES else self


def recipe_of(
    name: str | None, size: int | None, mean: str | None, std: str | None
) -> Recipe | None:
    """The preprocessing that the options describe; None if they are silent."""
    return make_recipe(
        name,
        size=size,
        mean=None if mean is None else parse_channels(mean, "--mean"),
        std=None if std is None else parse_channels(std, "--std"),
    )


def open_model(
    spec: str,
    model_arg: Sequence[str] | None,
    checkpoint: Path | None,
    *,
    allow_partial: bool,
    seed: int,
) -> LoadedModel:
    """Build the model and fill in the checkpoint; what did not fit is noted."""
    if allow_partial and checkpoint is None:
        raise OptionError("--allow-partial goes with --checkpoint FILE, which is missing")
    torch.manual_seed(seed)
    loaded = load_model(spec, parse_arguments(model_arg or []), weights=checkpoint is None)
    for line in loaded.standins:
        note(line)
    if checkpoint is not None:
        for left in load_weights(loaded.model, checkpoint, allow_partial=allow_partial):
            note(f"not loaded from {checkpoint}: {left}")
    elif spec in MODELS and MODELS[spec].weights is None:
        note(f"{spec} is untrained: give its weights with --checkpoint FILE")
    return loaded


def example_input(
    loaded: LoadedModel, spec: str, input_shape: str | None, data: Batches | None
) -> torch.Tensor:
    """Two images `[2, C, H, W]`: real ones where there are data, else noise of the known shape.

    Of events it is two recordings `[2, T, P, H, W]`, or three if T is 2.

    Raises OptionError if no shape is known, DataError if the data have another one.
    """
    shape = None if input_shape is None else parse_shape(input_shape)
    if data is not None:
        if shape is not None:
            check_shape(data.info, shape)
        images, _ = next(iter(data))
        return images[: _examples(images.shape[1:])]
    if shape is None and loaded.plan is not None:
        shape = loaded.plan.inputs[0].shape[1:]
    if shape is None and spec in MODELS:
        shape = MODELS[spec].example[1:]
    if shape is None:
        raise OptionError(f"the shape of an input of {spec} is not known: give --input-shape C,H,W")
    return torch.rand(_examples(shape), *shape, generator=torch.Generator().manual_seed(0))


def _examples(shape: tuple[int, ...]) -> int:
    """How many: of frames [B, T, C, H, W], a B that is not T tells the two axes apart."""
    return EXAMPLE_BATCH + (len(shape) == 4 and shape[0] == EXAMPLE_BATCH)


def check_fit(loaded: LoadedModel, example: torch.Tensor, data: Sequence[Batches]) -> None:
    """Raise ModelError if the forward fails, DataError if the data have other classes."""
    modes = {module: module.training for module in loaded.model.modules()}
    reset_state(loaded.model)
    try:
        loaded.model.eval()
        with torch.no_grad():
            logits = logits_of(loaded.model, example)
    finally:
        reset_state(loaded.model)
        for module, mode in modes.items():
            module.training = mode
    if example.ndim == 5 and len(logits) != len(example):
        raise ModelError(
            f"the model returns logits {list(logits.shape)} for frames {list(example.shape)}: "
            "psvit gives [B, T, C, H, W]; if the model takes T first, give it as MODEL "
            "psvit.models.time_first:batch_first --model-arg of=..., see docs/data.md"
        )
    for batches in data:
        check_classes(batches.info, logits.shape[1])
        for line in batches.info.notes:
            note(line)


def given_curves(file: Path | None, data: str | None) -> Curves | None:
    """The analysis of `--sensitivity FILE`, if it is given.

    Raises PlanError for a file that is none, or was made on other data than `--data`.
    """
    if file is None:
        return None
    curves = read_curves(file)
    if data is not None:
        check_data(curves, data, str(file))
    return curves


def check_device(device: str) -> torch.device:
    """Raises OptionError for a device that does not exist here."""
    try:
        found = torch.device(own_device(device))
        torch.zeros(1, device=found)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise OptionError(f"--device {device!r} cannot be used: {reason}") from error
    return found


def check_alone(command: str, instead: str) -> None:
    """Raise OptionError in a process that was started together with others."""
    if team_size() > 1:
        raise OptionError(
            f"psvit {command} runs in one process, but {team_size()} were started together "
            f"(WORLD_SIZE): {instead}"
        )


def data_settings(options: DataOptions, data: str | None, eval_data: str | None) -> dict[str, Any]:
    """What a folder has to remember to evaluate its model the same way again."""
    recipe = None if options.recipe is None else options.recipe.to_dict()
    return {"data": data, "eval_data": eval_data, "recipe": recipe, "limit": options.limit}
