"""The formats there are. The file of a format, and with it the package it needs, is imported when
it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from psvit.errors import OptionError, OutputError
from psvit.export.records import Format, Forward

FORMATS: Mapping[str, str] = {
    "onnx": "psvit.export.to_onnx:ONNX",
    "pt2": "psvit.export.to_pt2:PT2",
    "openvino": "psvit.export.to_openvino:OPENVINO",
    "executorch": "psvit.export.to_executorch:EXECUTORCH",
}
"""Name -> where its Format is."""
PARTS = "nir"
"""The format that holds the parts of a model, each a graph of its own, and gives no logits."""
NAMES = (*FORMATS, PARTS)

SUFFIXES: Mapping[str, str] = {
    ".onnx": "onnx",
    ".pt2": "pt2",
    ".xml": "openvino",
    ".pte": "executorch",
    ".nir": PARTS,
}
WEIGHTS = ("float32", "int8")


def check_choice(name: str, weights: str, path: Path) -> None:
    """Raises OptionError for a format, or weights, that there are not, or another's suffix."""
    if name not in NAMES:
        raise OptionError(f"no format is called {name!r}: expected one of {', '.join(NAMES)}")
    if weights not in WEIGHTS:
        raise OptionError(f"weights {weights!r}: expected one of {', '.join(WEIGHTS)}")
    suffix = next(end for end, owner in SUFFIXES.items() if owner == name)
    if path.suffix != suffix:
        raise OptionError(
            f"{path} is to hold format {name}, whose files end in {suffix}: name it so, or give "
            "another --format"
        )
    if weights == "int8" and name != "onnx":
        raise OptionError(f"weights int8 go with format onnx alone, not with {name}")


def format_of(name: str) -> Format:
    """Raises MissingExtra if the package that it needs is absent."""
    module, attribute = FORMATS[name].split(":")
    found: Format = getattr(importlib.import_module(module), attribute)
    return found


def nir_exchange() -> Any:
    """The module that writes and reads NIR. Raises MissingExtra if a package is absent."""
    return importlib.import_module("psvit.export.to_nir")


def is_export(path: str | Path) -> bool:
    """Whether this is a file in one of the formats, by its name."""
    return Path(path).suffix in SUFFIXES and Path(path).is_file()


class ExportedModel(nn.Module):
    """A file, as a module: images ``[B, ...]`` -> logits ``[B, K]``, on the CPU."""

    def __init__(self, run: Forward) -> None:
        super().__init__()
        self._run = run

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """By the runtime of the format."""
        return self._run(images)


def open_export(path: str | Path) -> nn.Module:
    """What runs an exported file. Raises OutputError for another file, MissingExtra without its
    runtime, CheckpointError for a damaged one."""
    path = Path(path)
    if not is_export(path):
        raise OutputError(
            f"{path} is not an exported model: expected a file that ends in {', '.join(SUFFIXES)}"
        )
    if SUFFIXES[path.suffix] == PARTS:
        raise OutputError(
            f"{path} holds parts of a model, which give no logits together: read it with nir.read"
        )
    return ExportedModel(format_of(SUFFIXES[path.suffix]).read(path))
