"""Write a pruned model as a folder: weights, plan, metrics, card. No pickle."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from psvit.artefacts.card import card_text, config_text
from psvit.artefacts.folder import CARD, CONFIG, METRICS, PLAN, WEIGHTS, written_folder
from psvit.artefacts.lineage import plan_of
from psvit.artefacts.story import story
from psvit.errors import OutputError
from psvit.records import Plan, Result

METRICS_VERSION = 1
PLAN_DIGEST = "psvit_plan_sha256"
Extras = Mapping[str, Callable[[Path], str]]
"""File name -> what writes its text, given the folder with everything else in it."""


@dataclass(frozen=True, eq=False)
class Artefact:
    """What a folder of psvit's holds: the pruned model, its plan, and metrics.json as read."""

    model: nn.Module
    plan: Plan
    metrics: Mapping[str, Any]


_NUMBERS = re.compile(r"\[\n\s*(-?\d+(?:,\n\s*-?\d+)*)\n\s*\]")


def save(
    result: Result, out: str | Path, *, force: bool = False, extras: Extras | None = None
) -> None:
    """Write `result` to the folder `out`, whole or not at all: a repository as the Hub has them.

    The plan that is written leads from the original model to the result, over any earlier
    pruning. With `force` an earlier folder of psvit's is replaced. `extras` are further text
    files, made last, from the folder as it will be; with them too it is whole or not there.

    Raises OutputError if `out` exists, is not psvit's, or cannot be written, and if the model
    keeps state that is not a tensor.
    """
    plan = plan_of(result.model) or result.plan
    _write(result.model, plan, _metrics(result), Path(out), force=force, extras=extras)


def save_artefact(
    artefact: Artefact, out: str | Path, *, force: bool = False, extras: Extras | None = None
) -> None:
    """Write what `load_artefact` gave, with other weights or figures, to the folder `out`.

    As `save` in all else, and raises as it does.
    """
    metrics = plain(artefact.metrics)
    _write(artefact.model, artefact.plan, metrics, Path(out), force=force, extras=extras)


def _write(
    model: nn.Module,
    plan: Plan,
    metrics: Mapping[str, Any],
    out: Path,
    *,
    force: bool,
    extras: Extras | None,
) -> None:
    weights = _weights(model)
    with written_folder(out, force=force) as folder:
        try:
            save_file(weights, folder / WEIGHTS, metadata={PLAN_DIGEST: digest(plan)})
        except SafetensorError as error:  # how a full disk reaches us
            raise OutputError(f"cannot write {out}: {error}") from error
        (folder / PLAN).write_text(plan.to_json() + "\n", encoding="utf-8")
        (folder / METRICS).write_text(as_text(metrics), encoding="utf-8")
        (folder / CONFIG).write_text(config_text(plan, metrics), encoding="utf-8")
        (folder / CARD).write_text(card_text(plan, metrics), encoding="utf-8")
        for name, text_of in (extras or {}).items():
            (folder / name).write_text(text_of(folder), encoding="utf-8")


def digest(plan: Plan) -> str:
    """SHA-256 of a plan's content: it ties the weights to the plan that shaped them."""
    return hashlib.sha256(plan.to_json().encode()).hexdigest()


def _weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Every tensor of the state dict, each with memory of its own, contiguous, on the CPU."""
    weights = {}
    for name, value in model.state_dict().items():
        if not isinstance(value, torch.Tensor):
            raise OutputError(
                f"the model keeps {name} ({type(value).__name__}) in its state dict, and psvit "
                "writes only tensors: make it a tensor, or drop it from get_extra_state"
            )
        weights[name] = value.detach().to("cpu", copy=True).contiguous()
    return weights


def _metrics(result: Result) -> dict[str, Any]:
    return {
        "psvit_metrics": METRICS_VERSION,
        "before": asdict(result.before),
        "after": asdict(result.after),
        "dense_recovered": None
        if result.dense_recovered is None
        else asdict(result.dense_recovered),
        "settings": plain(result.settings),
        **plain(result.measured),
        **plain(story(result)),
    }


def as_text(data: Mapping[str, Any]) -> str:
    """JSON with a line a figure, and lists of whole numbers on one line: people read it."""
    text = json.dumps(data, indent=1) + "\n"
    return _NUMBERS.sub(lambda m: "[" + " ".join(m[1].split()) + "]", text)


def plain(value: Any) -> Any:
    """`value` with mappings, sequences and paths turned into what JSON can say."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)
