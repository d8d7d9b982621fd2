"""OpenVINO's IR: a .xml with the graph and a .bin with the weights beside it, by way of ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from psvit.errors import CheckpointError, MissingExtra, ModelError
from psvit.export import to_onnx
from psvit.export.lower import first_line
from psvit.export.records import Format, Forward

try:
    import openvino
except ImportError as error:
    raise MissingExtra(
        f"OpenVINO did not import ({error}): install it with `pip install 'psvit[openvino]'`"
    ) from error


def write(program: ExportedProgram, path: Path) -> Mapping[str, Any]:
    """Weights stay float32. Raises ModelError for what ONNX or OpenVINO cannot say."""
    between = path.with_name("between.onnx")
    try:
        details = to_onnx.write(program, between)
        try:
            openvino.save_model(openvino.Core().read_model(between), path, compress_to_fp16=False)
        except RuntimeError as error:
            raise ModelError(f"OpenVINO cannot read the model ({first_line(error)})") from error
    finally:
        between.unlink(missing_ok=True)
    kept = {key: details[key] for key in ("opset", "onnx", "torch")}
    return {**kept, "openvino": openvino.__version__}


def read(path: Path) -> Forward:
    """On the CPU in float32, with as many threads as PyTorch. Raises CheckpointError."""
    core = openvino.Core()
    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    try:
        compiled = core.compile_model(core.read_model(path), "CPU", settings)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path} is no model that OpenVINO can run ({first_line(error)})"
        ) from error

    def forward(images: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(compiled([images.numpy()])[0].copy())

    return forward


OPENVINO = Format(".xml", "openvino", write, read)
