"""export(model, example, path) -> Export: trace, write, read back, compare, and only then keep."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from psvit.errors import ModelError
from psvit.export.compare import compare
from psvit.export.files import check_file, json_path, write_json, written_file
from psvit.export.flips import follow
from psvit.export.formats import PARTS, check_choice, format_of
from psvit.export.lower import simplified, trace
from psvit.export.records import Export
from psvit.export.run_parts import export_parts
from psvit.inference import recorded

N = 1000
RANDOM_BATCH = 50
Say = Callable[[str], None]


def export(
    model: nn.Module,
    example_inputs: torch.Tensor,
    path: str | Path,
    format: str = "onnx",
    *,
    weights: str = "float32",
    data: Iterable[Any] | None = None,
    n: int = N,
    force: bool = False,
    settings: Mapping[str, Any] | None = None,
    say: Say = lambda text: None,
) -> Export:
    """Write ``model`` to the file ``path``, and compare what the file computes with it.

    ``example_inputs``: images ``[B, C, H, W]`` or ``[B, T, ...]`` with B >= 2; the file takes any
    B, and gives logits ``[B, K]``, from neurons at rest. ``format``: onnx, pt2, openvino,
    executorch, or nir, whose file holds the parts of the model that NIR can express.
    ``weights``: float32, or int8: 8 bits, a scale for each output channel (onnx alone).
    ``data``: batches of images, or ``(images, labels)``, of which the first ``n`` are compared;
    without, ``n`` random images. ``path`` + ".json" tells the result, and ``settings``, which is
    plain data. All of it is written whole, or not at all.

    The model is not touched. Raises OptionError for a choice there is not, OutputError for a path
    that cannot be written, MissingExtra without the format's package, ModelError for a model that
    cannot be recorded, or has an operator that the format lacks: it names operator and layer.
    """
    path = Path(path)
    check_file(path, force=force)
    check_choice(format, weights, path)
    example = _checked(example_inputs)
    shape = tuple(example.shape[1:])
    batches = data if data is not None else _random_images(shape, n)
    settings = dict(settings or {})
    if format == PARTS:
        made = export_parts(
            model, example, path, batches, n, force=force, settings=settings, say=say
        )
        return replace(made, path=path)
    chosen = format_of(format)
    say("tracing the model")
    graph = simplified(model, example)
    program = trace(recorded(graph), example, chosen.largest)
    with written_file(path, force=force) as target:
        say(f"writing {format}")
        if weights == "int8":
            details = _in_8_bits(program, target)
        else:
            details = dict(chosen.write(program, target))
        say("comparing it with the model")
        found, others = compare(model, chosen.read(target), batches, n)
        if weights == "float32" and len(others):
            say("looking for the spikes that flipped")
            found = follow(model, graph, chosen, example, others, found)
        size = sum(one.stat().st_size for one in target.parent.iterdir())
        details["settings"] = settings
        made = Export(target, format, weights, size, shape, found, details)
        write_json(json_path(target), made.to_dict())
    return replace(made, path=path)


def _in_8_bits(program: Any, target: Path) -> dict[str, Any]:
    from psvit.export import to_onnx

    whole = target.with_name("float32.onnx")
    try:
        to_onnx.write(program, whole)
        before = whole.stat().st_size
        to_onnx.quantise(whole, target)
    finally:
        whole.unlink(missing_ok=True)
    return {**to_onnx.about(target), "bytes_float32": before}


def _checked(example: torch.Tensor) -> torch.Tensor:
    if not isinstance(example, torch.Tensor) or example.ndim < 2 or len(example) < 2:
        got = list(example.shape) if isinstance(example, torch.Tensor) else type(example).__name__
        raise ModelError(
            f"the example input is {got}, expected two images or more in one tensor, such as "
            "torch.rand(2, 3, 224, 224)"
        )
    return example.detach().cpu()


def _random_images(shape: tuple[int, ...], n: int) -> Iterable[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    for start in range(0, n, RANDOM_BATCH):
        yield torch.rand(min(RANDOM_BATCH, n - start), *shape, generator=generator)
