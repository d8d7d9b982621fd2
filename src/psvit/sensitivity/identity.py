"""What an analysis was made of, so that no file is taken for that of another one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from psvit.records import Graph
from psvit.sensitivity.trials import Trials

HASHES = {
    "weights": "the weights of the model differ",
    "images": "the images or labels differ (or come in another order)",
    "channels": "other channels are chosen (the saliency or psvit has changed)",
}
"""Settings that are hashes, and what it means that they differ."""


def weights_hash(graph: Graph) -> str:
    """A short hash of all parameters and buffers; ``psvit.groups.fingerprint`` knows no values."""
    total = hashlib.sha256()
    for name, tensor in sorted(_tensors(graph.module).items()):
        total.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        data = tensor.detach().cpu().contiguous().flatten()
        total.update(data.view(torch.uint8).numpy().tobytes())
    return total.hexdigest()[:16]


def channels_hash(trials: Trials) -> str:
    """A short hash of which channels each trial removes."""
    removals = [
        [t.tie, t.ratio, t.removed, sorted((g, list(c)) for g, c in t.removal.items())]
        for t in trials.items
    ]
    return hashlib.sha256(json.dumps(removals).encode()).hexdigest()[:16]


def difference(
    fingerprint: str,
    settings: Mapping[str, Any],
    found_fingerprint: Any,
    found_settings: Any,
) -> str | None:
    """In words, the first thing in which what was found is of another analysis; None if none."""
    if found_fingerprint != fingerprint:
        return f"it is of another model ({found_fingerprint}, this one is {fingerprint})"
    found = found_settings if isinstance(found_settings, Mapping) else {}
    # hashes last: that n differs says more than that the images do
    plain = sorted({*map(str, settings), *map(str, found)} - set(HASHES))
    for key in (*plain, *HASHES):
        if settings.get(key) != found.get(key):
            if key in HASHES:
                return HASHES[key]
            return f"its {key} is {_text(found.get(key))}, now {_text(settings.get(key))}"
    return None


def _text(value: Any) -> str:
    return json.dumps(value) if value is not None else "not said"


def _tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    return dict(module.named_parameters()) | dict(module.named_buffers())
