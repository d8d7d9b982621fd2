"""Read a folder that psvit wrote: build the original, slice it by the plan, fill in weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from psvit.artefacts.checkpoint import differences
from psvit.artefacts.folder import METRICS, PLAN, WEIGHTS
from psvit.artefacts.hub import is_on_hub, local_folder
from psvit.artefacts.lineage import remember
from psvit.artefacts.save import PLAN_DIGEST, Artefact, digest
from psvit.errors import OutputError, PlanError
from psvit.models.registry import MODELS
from psvit.records import Plan


def load(out: str | Path, *, model: nn.Module | None = None) -> nn.Module:
    """The pruned model in the folder `out`, in eval mode; it trains, exports and saves again.

    `out` may also be "hub:user/name" or "hub:user/name@revision", a repository of the Hub. From
    there only psvit's own models are built; for any other, give `model`.

    The original is built by the factory that plan.json names, which runs that code: load only
    folders that you trust. `model`, an instance of the original (any weights; it is left
    untouched), takes its place, and is needed where the folder names no factory.

    Raises OutputError for a folder that psvit did not write or that is damaged, PlanError for a
    plan that was edited, is newer than this psvit, or belongs to another model, and ModelError
    if the original cannot be built or the repository not be had.
    """
    return load_artefact(out, model=model).model


def load_artefact(out: str | Path, *, model: nn.Module | None = None) -> Artefact:
    """As `load`, with the plan and the metrics."""
    # Imported late: the engine is not needed to read a plan, and models.load imports this file.
    from psvit.capture import capture
    from psvit.models.load import build_source
    from psvit.rewrite import rewrite

    folder = local_folder(out)
    plan = read_plan(folder)
    weights, plan_digest = _read_weights(folder)
    if plan_digest is not None and plan_digest != digest(plan):
        raise PlanError(
            f"{folder / PLAN} is not the plan that {WEIGHTS} was written with: it was edited, or "
            "copied from another folder; restore it, or prune again"
        )
    metrics = _read_metrics(folder)
    if model is None:
        if plan.source is None:
            raise PlanError(
                f"{folder / PLAN} does not say how to build the original model: give an instance "
                "of it, psvit.load(OUT, model=...)"
            )
        if is_on_hub(out) and plan.source.factory not in MODELS:
            raise PlanError(
                f"{out} says that {plan.source.factory} builds its original, which is none of "
                "psvit's models, and what a stranger names is not called: give an instance, "
                "psvit.load(..., model=...), or download the folder if you trust it"
            )
        model = build_source(plan.source)
    graph = capture(model, tuple(spec.zeros() for spec in plan.inputs), check=False)
    small = rewrite(graph, plan, locks=False)  # the weights in the folder are still to come
    _fill(small, weights, folder)
    remember(small, plan)
    return Artefact(small, plan, metrics)


def read_plan(folder: Path) -> Plan:
    """The plan in `folder`. Raises OutputError if psvit did not write it, PlanError as above."""
    if not folder.is_dir():
        raise OutputError(f"{folder} does not exist or is no folder: expected one psvit wrote")
    for name in (PLAN, WEIGHTS):
        if not (folder / name).is_file():
            raise OutputError(f"{folder} is not a folder that psvit wrote: it has no {name}")
    try:
        text = (folder / PLAN).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OutputError(f"cannot read {folder / PLAN}: {error}") from error
    return Plan.from_json(text)


def _read_weights(folder: Path) -> tuple[dict[str, torch.Tensor], str | None]:
    path = folder / WEIGHTS
    try:
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return weights, (file.metadata() or {}).get(PLAN_DIGEST)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"{path} is damaged or truncated ({error}): prune again") from error


def _read_metrics(folder: Path) -> Mapping[str, Any]:
    path = folder / METRICS
    if not path.is_file():
        return {}
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OutputError(f"{path} is damaged ({error}): delete it, or prune again") from error
    if not isinstance(metrics, dict):
        raise OutputError(f"{path} is damaged: delete it, or prune again")
    return metrics


def _fill(model: nn.Module, weights: Mapping[str, torch.Tensor], folder: Path) -> None:
    state = {k: v for k, v in model.state_dict().items() if isinstance(v, torch.Tensor)}
    wrong = differences(state, weights)
    if wrong:
        raise PlanError(f"{folder / PLAN} and {WEIGHTS} do not belong together: {'; '.join(wrong)}")
    _match_dtypes(model, weights)
    model.load_state_dict(dict(weights), strict=True)


def _match_dtypes(model: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Give each tensor the dtype it was saved in, so that copying rounds nothing.

    In place, so that parameters shared by several modules stay shared.
    """
    for name, tensor in [
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ]:
        if name in weights and tensor.dtype != weights[name].dtype:
            tensor.data = tensor.data.to(weights[name].dtype)
