"""The export of a model part by part, to a format that cannot express it whole."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from psvit.capture import capture
from psvit.errors import ModelError
from psvit.export.compare_parts import compare_parts, folded_taps
from psvit.export.files import json_path, write_json, written_file
from psvit.export.formats import PARTS, nir_exchange
from psvit.export.parts import Part, find_parts
from psvit.export.records import Export, Left
from psvit.inference import folded
from psvit.records import Graph


def export_parts(
    model: nn.Module,
    example: torch.Tensor,
    path: Path,
    batches: Iterable[Any],
    n: int,
    *,
    force: bool,
    settings: Mapping[str, Any],
    say: Callable[[str], None],
) -> Export:
    """Write what NIR can express to ``path``; arguments and errors are those of ``export``."""
    exchange = nir_exchange()
    say("recording the model")
    graph = capture(model, example)
    parts, left = found_parts(graph)
    say(f"writing {len(parts)} parts as {PARTS}")
    with written_file(path, force=force) as target:
        details = dict(exchange.write(parts, target))
        say("comparing them with the model")
        matches = compare_parts(graph, parts, exchange.read(target), batches, n)
        size = target.stat().st_size
        details["settings"] = dict(settings)
        shape = tuple(example.shape[1:])
        made = Export(target, PARTS, "float32", size, shape, None, details, matches, left)
        write_json(json_path(target), made.to_dict())
    return made


def found_parts(graph: Graph) -> tuple[dict[str, Part], tuple[Left, ...]]:
    """The parts of a recorded model by name, and what is in none. Raises ModelError for no part."""
    simple = folded(
        Graph(
            copy.deepcopy(graph.module),
            {"eval": copy.deepcopy(graph.forwards["eval"])},
            graph.inputs,
            graph.fixed,
        )
    )
    taps = folded_taps(graph.forwards["eval"], simple.forwards["eval"])
    parts, left = find_parts(simple, nir_exchange().kind_of, taps)
    if not parts:
        first = f", first {left[0].operation} {left[0].layer}: {left[0].reason}" if left else ""
        name = getattr(graph.module, "original_class", type(graph.module).__qualname__)
        raise ModelError(f"NIR can express no layer of {name}{first}: export to another format")
    return {part.name: part for part in parts}, left
