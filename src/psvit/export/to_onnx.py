"""ONNX: written by torch.onnx, run and quantised by ONNX Runtime."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from psvit.errors import CheckpointError, MissingExtra, ModelError
from psvit.export.lower import BATCH, INPUT, OUTPUT, first_line, quiet, unsupported
from psvit.export.records import Format, Forward

try:
    import onnx
    import onnxruntime
    import onnxscript  # noqa: F401 (torch.onnx needs it)
except ImportError as error:
    raise MissingExtra(
        f"ONNX needs onnx, onnxscript and onnxruntime ({error}): "
        "install them with `pip install 'psvit[onnx]'`"
    ) from error

OPSET = 20
QUANTISED = ("Conv", "MatMul", "Gemm")


def write(program: ExportedProgram, path: Path) -> Mapping[str, Any]:
    """Plain operators of opset 20, batch size open. Raises ModelError for what ONNX cannot say."""
    try:
        with quiet():
            made: Any = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
                verbose=False,
            )
    except Exception as error:  # torch.onnx wraps what happened several times over
        raise _explained(program, error) from error
    _tidy(made.model)
    made.save(path)
    return about(path)


def about(path: Path) -> dict[str, Any]:
    """Opset, producer and operators of a file."""
    model = onnx.load(path)
    operators = Counter(
        f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        for node in model.graph.node
    )
    return {
        "opset": {entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        "onnx": onnx.__version__,
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
        "operators": dict(sorted(operators.items())),
    }


def quantise(path: Path, out: Path) -> None:
    """Weights in 8 bits, a scale for each output channel; activations as they come.

    ONNX Runtime's dynamic quantisation: the scale of an activation is that of its largest value
    at the time, so that nothing has to be calibrated, and spikes stay exact.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _silent_root(), quiet():
        quantize_dynamic(
            path,
            out,
            per_channel=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=list(QUANTISED),
        )


def read(path: Path) -> Forward:
    """ONNX Runtime on the CPU, with as many threads as PyTorch. Raises CheckpointError."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's errors have no common base but this
        raise CheckpointError(
            f"{path} is no ONNX model that ONNX Runtime can run ({first_line(error)})"
        ) from error
    name = session.get_inputs()[0].name

    def forward(images: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(session.run(None, {name: images.numpy()})[0])

    return forward


def _tidy(model: Any) -> None:
    """Name the batch, and drop what the exporter notes of each node: half of a small file."""
    shown = [*model.graph.inputs, *model.graph.outputs]
    symbol = str(shown[0].shape[0])
    for value in (*shown, *(out for node in model.graph for out in node.outputs)):
        value.metadata_props.clear()
        if value.shape is not None:
            value.shape = type(value.shape)(
                [BATCH if str(size) == symbol else size for size in value.shape]
            )
    for node in model.graph:
        node.metadata_props.clear()
        node.doc_string = None
    for value in model.graph.initializers.values():
        value.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.metadata_props.clear()
    model.metadata_props["psvit"] = json.dumps({"opset": OPSET, "input": INPUT, "output": OUTPUT})
    model.producer_name = "psvit"


_REFUSED = re.compile(
    r"translating node %(?P<name>\w+).*?target=torch\.ops\.(?P<operator>[\w.]+)\]\(args = "
    r"\((?P<args>.*?)\)"
)


def _explained(program: ExportedProgram, error: BaseException) -> ModelError:
    """Which operator of which layer it was, as far as the exporter's text says.

    It names the operator that ours had been taken apart into, mostly of the same name.
    """
    refused = _REFUSED.search(str(error))
    nodes = [node for node in program.graph.nodes if node.op == "call_function"]
    if refused is None:
        return ModelError(f"torch.onnx cannot export this model ({first_line(error)})")
    kind = refused["operator"].split(".")[1]
    read = set(re.findall(r"%(\w+)", refused["args"]))
    for fits in (
        lambda node: node.name == refused["name"] and kind in str(node.target),
        lambda node: kind in str(node.target),
        lambda node: read & {argument.name for argument in node.all_input_nodes},
    ):
        found = next(filter(fits, nodes), None)
        if found is not None:
            return unsupported(found, f"ONNX (opset {OPSET})")
    return ModelError(f"ONNX (opset {OPSET}) has no form of the operator {refused['operator']}")


@contextmanager
def _silent_root() -> Iterator[None]:
    """The quantiser warns by the root logger that shapes were not inferred before."""
    root = logging.getLogger()
    level = root.level
    try:
        root.setLevel(logging.ERROR)
        yield
    finally:
        root.setLevel(level)


ONNX = Format(".onnx", "onnx", write, read)
