"""What an analysis was made of, so that no file is taken for that of another one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from psvit.records import Graph
from psvit.sensitivity.trials import Trials

HASHES = {
    "calibration": "the calibration images of its compensation differ",
    "weights": "the weights of the model differ",
    "batches": "the images come in other batches (the batch size or the memory limit differs)",
    "images": "the images or labels differ (or come in another order)",
    "channels": "other channels are chosen (the saliency or psvit has changed)",
}
"""Settings that are hashes, and what it means that they differ."""


def weights_hash(graph: Graph) -> str:
    """A short hash of all parameters and buffers; ``psvit.groups.fingerprint`` knows no values."""
    return tensors_hash(graph.module)


def batches_hash(batches: Iterable[Any]) -> str:
    """A short hash of the tensors of some batches, images and labels."""
    total = hashlib.sha256()
    for batch in batches:
        for part in batch if isinstance(batch, tuple | list) else (batch,):
            if isinstance(part, torch.Tensor):
                total.update(f"{part.dtype} {list(part.shape)}".encode())
                data = part.detach().cpu().contiguous().flatten()
                total.update(data.view(torch.uint8).numpy().tobytes())
    return total.hexdigest()[:16]


def tensors_hash(module: nn.Module) -> str:
    """The same of any model."""
    total = hashlib.sha256()
    for name, tensor in sorted(_tensors(module).items()):
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
    return hash_of(removals)


def hash_of(data: Any) -> str:
    """A short hash of JSON data."""
    return hashlib.sha256(json.dumps(data).encode()).hexdigest()[:16]


def _tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    return dict(module.named_parameters()) | dict(module.named_buffers())
