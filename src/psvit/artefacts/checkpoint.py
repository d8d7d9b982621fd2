"""Read the weights of other people's checkpoints, without running a line of their code.

Understood: safetensors, and torch files read with weights only; a state dict as it is or under
`state_dict`, `model`, ..., `ema`; keys prefixed by DataParallel (`module.`) or torch.compile
(`_orig_mod.`).
"""

from __future__ import annotations

import argparse
import codecs
import datetime
import pathlib
import pickle
import re
import types
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from psvit.errors import CheckpointError

WRAPPERS = (
    "state_dict",
    "model",
    "model_state_dict",
    "model_state",
    "net",
    "module",
    "model_ema",
    "ema",
    "state_dict_ema",
    "ema_state_dict",
)
"""Where checkpoints keep their weights, in the order they are tried: plain weights before EMA."""

PREFIXES = ("module.", "_orig_mod.", "model.")
SHOWN = 3


def load_weights(model: nn.Module, path: str | Path, *, allow_partial: bool = False) -> list[str]:
    """Copy the weights in the file `path` into `model`; returns what was not, in words.

    With `allow_partial`, tensors that are missing or of another shape are left as they are
    (at least one must fit); without it they are an error. Moving averages (EMA) beside plain
    weights are not loaded and told of.

    Raises CheckpointError for a file that is missing, damaged, unsafe, or of another model.
    """
    path = Path(path)
    state = {k: v for k, v in model.state_dict().items() if isinstance(v, torch.Tensor)}
    found, others = _read(path)
    weights = strip_prefixes(found, state)
    wrong = differences(state, weights)
    fitting = {k: v for k, v in weights.items() if k in state and v.shape == state[k].shape}
    if wrong and not allow_partial:
        raise CheckpointError(
            f"{path} holds the weights of another model ({len(fitting)} of {len(state)} tensors "
            f"fit): {shorten(wrong)}; use --allow-partial to load what fits"
        )
    if not fitting:
        raise CheckpointError(
            f"{path} holds no tensor that fits this model: {shorten(wrong)}; check that the "
            "model and its arguments are those of the checkpoint"
        )
    with torch.no_grad():
        model.load_state_dict(fitting, strict=False)
    return wrong + others


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors in the file `path` by name, as stored, on the CPU.

    Raises CheckpointError for a file that is missing, damaged, or would execute code.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[dict[str, torch.Tensor], list[str]]:
    """The tensors by name, and what other weights there are beside them, in words."""
    if not path.exists():
        raise CheckpointError(f"{path} does not exist: expected a safetensors or torch file")
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder: expected a safetensors or torch file")
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    if not head:
        raise CheckpointError(f"{path} is empty: download or copy it again")
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path} is a Git LFS pointer, not the weights: run `git lfs pull` where it lies"
        )
    if head.lstrip()[:5].lower() in (b"<!doc", b"<html"):
        raise CheckpointError(
            f"{path} is a web page, not the weights: a link to a drive often answers with one; "
            "open the link in a browser and download the file itself"
        )
    if path.suffix == ".safetensors" or head[8:9] == b"{":
        return _read_safetensors(path), []
    return _unwrap(_read_torch(path), path)


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"{path} is damaged or truncated ({one_line(error)}): download or copy it again"
        ) from error


def _plain_dict(*_: object) -> dict[Any, Any]:
    """What a defaultdict is read as: nobody asks it for a key that it lacks."""
    return {}


def _plain_list(*_: object) -> list[Any]:
    """What a deque is read as."""
    return []


_PATHS = {"Posix": pathlib.PurePosixPath, "Windows": pathlib.PureWindowsPath}

HARMLESS: list[Any] = [
    # Plain values that training scripts put beside the weights. Rebuilding one sets attributes
    # or copies numbers; none of them runs code that the file chose.
    argparse.Namespace,
    types.SimpleNamespace,
    datetime.date,
    datetime.datetime,
    datetime.timedelta,
    datetime.timezone,
    codecs.encode,
    dict,
    list,
    set,
    frozenset,
    slice,
    range,
    int,
    float,
    np.dtype,
    np.ndarray,
    np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
    np._core.multiarray.scalar,  # type: ignore[attr-defined]
    # The names that numpy 1 wrote into files.
    (np._core.multiarray._reconstruct, "numpy.core.multiarray._reconstruct"),  # type: ignore[attr-defined]
    (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),  # type: ignore[attr-defined]
    *{type(np.dtype(code)) for code in "?bBhHiIlLqQefdFDUS"},
    # torch fills dicts and lists, but nothing derived from them.
    (_plain_dict, "collections.defaultdict"),
    (_plain_list, "collections.deque"),
    # A path of another system cannot be made here, a name of it can. Two names: Python 3.13's.
    *(
        (_PATHS[system], f"{module}.{kind}{system}Path")
        for module in ("pathlib", "pathlib._local")
        for system in _PATHS
        for kind in ("", "Pure")
    ),
]


def _read_torch(path: Path) -> object:
    try:
        with torch.serialization.safe_globals(HARMLESS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other pickle protocols, and TorchScript
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch raises whatever the damage happens to trip over: EOFError, IndexError,
        # OSError, RuntimeError, KeyError, UnpicklingError, ...
        raise CheckpointError(f"{path} {_why_unread(error)}") from error


def _why_unread(error: Exception) -> str:
    """What torch's words on a file come to, and what to do."""
    text = str(error)
    alone = "so it was not read; save its state_dict() alone, or convert it to safetensors"
    forbidden = re.search(r"GLOBAL ([\w.]+)", text)
    if forbidden:
        return f"would execute code when read: it asks for {forbidden[1]}, {alone}"
    if "TorchScript" in text:
        return "is a TorchScript program, not weights: save its state_dict() instead"
    if "legacy .tar format" in text:
        return "is a tar archive: unpack it, and give the file with the weights that is in it"
    if re.search(r"Unsupported operand 1[45]\d", text):  # what later protocols added
        return (
            f"was pickled by a protocol that cannot be read safely (torch.save's own is 2), {alone}"
        )
    if isinstance(error, pickle.UnpicklingError):
        if "Trying to call" in text:
            return f"would execute code when read ({one_line(text.split('Error')[-1])}), {alone}"
        unfit = re.search(r"Can only [^\n]* but got ([^\n]+)", text)
        if unfit:
            return f"holds more than weights and plain values ({unfit[1].strip()}), {alone}"
    return (
        f"is damaged, truncated, or no torch file ({type(error).__name__}): "
        "download or copy it again"
    )


def _unwrap(data: object, path: Path) -> tuple[dict[str, torch.Tensor], list[str]]:
    """The state dict inside `data`, which may sit under one of WRAPPERS, once or twice."""
    others: list[str] = []
    for _ in range(3):
        if not isinstance(data, Mapping):
            break
        tensors = {str(k): v for k, v in data.items() if isinstance(v, torch.Tensor)}
        places = [k for k in WRAPPERS if isinstance(data.get(k), Mapping)]
        if not places:
            if tensors:
                return tensors, others
            keys = ", ".join(str(k) for k in list(data)[:5])
            raise CheckpointError(
                f"{path} holds no weights: expected tensors, or one of {', '.join(WRAPPERS)}; "
                f"it has {keys or 'nothing'}"
            )
        others += [f"{k}, which lies beside {places[0]}" for k in places[1:] if "ema" in k]
        data = data[places[0]]
    raise CheckpointError(
        f"{path} holds a {type(data).__name__}: expected a state dict (name -> tensor)"
    )


def strip_prefixes(
    weights: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """`weights` without the prefixes of wrappers, unless the model has them itself."""
    out = dict(weights)
    changed = True
    while changed:
        changed = False
        for prefix in PREFIXES:
            foreign = not any(name.startswith(prefix) for name in expected)
            # EMA wrappers add a counter of their own beside the prefixed keys.
            inside = {k: v for k, v in out.items() if k.startswith(prefix)}
            if foreign and inside and len(inside) >= len(out) - 1:
                out = {k.removeprefix(prefix): v for k, v in inside.items()}
                changed = True
    if not any("_orig_mod." in name for name in expected):
        out = {name.replace("_orig_mod.", ""): tensor for name, tensor in out.items()}
    return out


def differences(
    expected: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]
) -> list[str]:
    """What differs between two state dicts, in words: shapes first, then names.

    BN's batch counter may be missing: files older than it are complete without it.
    """
    shapes = [
        f"{name} is {list(found[name].shape)}, expected {list(tensor.shape)}"
        for name, tensor in expected.items()
        if name in found and found[name].shape != tensor.shape
    ]
    missing = [
        f"{name} {list(tensor.shape)} is missing"
        for name, tensor in expected.items()
        if name not in found and not name.endswith("num_batches_tracked")
    ]
    extra = [
        f"{name} {list(tensor.shape)} is unknown to the model"
        for name, tensor in found.items()
        if name not in expected
    ]
    return shapes + missing + extra


def shorten(items: list[str]) -> str:
    """The first few items, and how many more there are."""
    more = f"; and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return "; ".join(items[:SHOWN]) + more


def one_line(text: object, limit: int = 160) -> str:
    """`text` on one line, cut to `limit` characters."""
    flat = " ".join(str(text).split())
    return flat if len(flat) <= limit else flat[: limit - 3] + "..."
