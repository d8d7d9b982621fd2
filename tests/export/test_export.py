"""An export computes what the model does; what cannot be is named, and nothing half is left."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from spikingjelly.activation_based import layer, neuron
from torch import Tensor, nn

import psvit
from psvit.errors import (
    CheckpointError,
    MissingExtra,
    ModelError,
    OptionError,
    OutputError,
)
from psvit.export import Export, open_export
from psvit.export.compare import compare
from psvit.export.lower import simplified, trace
from psvit.inference import recorded
from psvit.neurons import reset_state

T = 2


class Spiking(nn.Module):
    """Norm, plain and learned neurons, attention: ``[B, 2, 6, 6]`` -> ``[T, B, 5]``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = layer.Conv2d(2, 8, 3, bias=False, step_mode="m")
        self.norm = layer.BatchNorm2d(8, step_mode="m")
        self.fire = neuron.LIFNode(v_threshold=0.5, step_mode="m")
        self.learned = neuron.ParametricLIFNode(v_threshold=0.5, step_mode="m")
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fire(self.norm(self.conv(x.unsqueeze(0).repeat(T, 1, 1, 1, 1)))).flatten(3)
        attention = x.transpose(-2, -1) @ x
        y = self.learned(x @ attention / 16)
        return self.head(y.mean(-1))


def model() -> nn.Module:
    torch.manual_seed(0)
    made = Spiking()
    with torch.no_grad():
        made.norm.running_mean.normal_(0, 0.1)
        made.norm.running_var.uniform_(0.5, 1.5)
        made.norm.bias.normal_(0, 0.5)
    return made.eval()


def images(count: int, seed: int = 1) -> Tensor:
    return 3 * torch.rand(count, 2, 6, 6, generator=torch.Generator().manual_seed(seed))


def logits(made: nn.Module, x: Tensor) -> Tensor:
    reset_state(made)
    with torch.no_grad():
        out = made(x)
    reset_state(made)
    return out.mean(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")


@pytest.fixture(scope="module")
def onnx_file(folder: Path) -> Export:
    batches = [(images(20, seed), torch.arange(20) % 5) for seed in range(4)]
    return psvit.export(model(), images(2), folder / "net.onnx", data=batches, n=50)


@pytest.fixture(scope="module")
def pt2_file(folder: Path) -> Export:
    return psvit.export(model(), images(2), folder / "net.pt2", "pt2", n=30)


def test_the_program_is_the_model_bit_for_bit_at_any_batch_size() -> None:
    program = trace(recorded(simplified(model(), images(2))), images(2)).module()
    for count in (1, 2, 7):
        x = images(count)
        expected = logits(model(), x)
        assert expected.std() > 0.01
        torch.testing.assert_close(program(x), expected, rtol=0, atol=1e-5)
        assert torch.equal(program(x), program(x))


@pytest.fixture(scope="module")
def openvino_file(folder: Path) -> Export:
    pytest.importorskip("openvino", reason="OpenVINO is not installed: psvit[openvino]")
    return psvit.export(model(), images(2), folder / "net.xml", "openvino", n=30)


@pytest.fixture(scope="module")
def executorch_file(folder: Path) -> Export:
    pytest.importorskip("executorch", reason="ExecuTorch is not installed: psvit[executorch]")
    return psvit.export(model(), images(2), folder / "net.pte", "executorch", n=30)


@pytest.mark.parametrize("name", ["onnx_file", "pt2_file", "openvino_file", "executorch_file"])
def test_a_file_gives_the_logits_of_the_model(name: str, request: pytest.FixtureRequest) -> None:
    made = request.getfixturevalue(name)
    loaded = open_export(made.path)
    for count in (1, 5):
        torch.testing.assert_close(
            loaded(images(count, 9)), logits(model(), images(count, 9)), rtol=0, atol=1e-5
        )
    found = made.comparison
    assert found.same_top1 == found.n
    assert found.differing == 0
    assert 0 <= found.largest < 1e-4


def test_the_json_beside_a_file_tells_what_was_compared(onnx_file: Export) -> None:
    told = json.loads(Path(f"{onnx_file.path}.json").read_text())
    assert told["comparison"]["n"] == 50  # of the 80 that there are
    assert told["comparison"]["labelled"] == 50
    assert told["comparison"]["correct_model"] == told["comparison"]["correct_file"]
    assert told["opset"] == {"ai.onnx": 20}
    assert told["bytes"] == onnx_file.path.stat().st_size
    assert told["input"]["shape"] == ["batch", 2, 6, 6]
    assert {p.name for p in onnx_file.path.parent.iterdir()} <= {
        *("net.onnx", "net.onnx.json", "net.pt2", "net.pt2.json"),
        *("small.onnx", "small.onnx.json", "net.pte", "net.pte.json"),
        *("net.xml", "net.bin", "net.xml.json"),
    }


def test_onnx_has_plain_operators_alone_and_names_the_batch(onnx_file: Export) -> None:
    import onnx

    loaded = onnx.load(onnx_file.path)
    onnx.checker.check_model(loaded, full_check=True)
    assert not loaded.functions
    assert {node.domain for node in loaded.graph.node} == {""}
    assert {"BatchNormalization", "Identity", "Loop", "If", "Scan"}.isdisjoint(
        node.op_type for node in loaded.graph.node
    )
    for value in (*loaded.graph.input, *loaded.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"


def test_weights_in_8_bits_are_smaller_and_still_near(folder: Path, onnx_file: Export) -> None:
    small = psvit.export(model(), images(2), folder / "small.onnx", weights="int8", n=100)
    found = small.comparison
    assert small.details["operators"]["ConvInteger"] == 1
    assert small.weights == "int8"
    assert small.details["bytes_float32"] == pytest.approx(onnx_file.bytes, rel=0.01)
    assert found.same_top1 >= 80
    assert found.differing > 0  # they are not the float weights


def test_a_flipped_spike_is_counted_not_hidden() -> None:
    made = model()

    def other(x: Tensor) -> Tensor:
        out = logits(made, x)
        out[0] += 0.5
        out[1] += 5e-5
        return out

    found, _ = compare(made, other, [images(4)], n=4)
    assert (found.n, found.differing) == (4, 1)
    assert found.largest == pytest.approx(5e-5, rel=0.1)
    assert found.largest_differing == pytest.approx(0.5, rel=0.01)


class Bessel(nn.Module):
    """ONNX has no Bessel functions."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(72, 5)

    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(self.head(x.flatten(1)))


@torch.library.custom_op("psvit_test::twice", mutates_args=())
def twice(x: Tensor) -> Tensor:
    return 2 * x


@twice.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


class Foreign(Bessel):
    def forward(self, x: Tensor) -> Tensor:
        return twice(self.head(x.flatten(1)))


class Fixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(72, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([x[i : i + 1].flatten(1) for i in range(len(x))]))


class Across(nn.Module):
    """Neurons that get ``[T * B, C]`` go on from one image to the next, as published."""

    def __init__(self) -> None:
        super().__init__()
        self.fire = neuron.LIFNode(v_threshold=0.3, step_mode="m")
        self.head = nn.Linear(72, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = x.unsqueeze(0).repeat(T, 1, 1, 1, 1).flatten(0, 1)
        return self.head(self.fire(x).flatten(1)).unflatten(0, (T, -1))


class RoundTrip(nn.Module):
    """Steps and images are put apart for a norm that is folded, and together again at once."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = layer.BatchNorm2d(4, step_mode="m")
        self.fire = neuron.LIFNode(v_threshold=0.3, step_mode="m")
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        steps = x.unsqueeze(0).repeat(T, 1, 1, 1, 1)
        size = steps.shape
        x = self.conv(steps.flatten(0, 1))
        x = self.norm(torch.unflatten(x, 0, (size[0], size[1])))
        x = torch.unflatten(x.flatten(0, -4), 0, (size[0], size[1]))
        return self.head(self.fire(x).mean((-2, -1)))


def test_views_that_lead_back_do_not_fix_the_batch_size() -> None:
    torch.manual_seed(0)
    made = RoundTrip().eval()
    program = trace(recorded(simplified(made, images(2))), images(2))
    for count in (1, 2, 7):
        expected = logits(made, images(count))
        assert expected.std() > 0.01
        torch.testing.assert_close(program.module()(images(count)), expected, rtol=0, atol=1e-5)
    views = [n.target._opname for n in program.graph.nodes if hasattr(n.target, "_opname")]
    assert views.count("unflatten") + views.count("view") <= 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            Bessel(),
            r"^ONNX \(opset 20\) has no form of the operator aten.special_bessel_j0.default in the "
            "forward, after head: export",
        ),
        (
            Foreign(),
            "no form of the operator psvit_test.twice.default in the forward, after head",
        ),
        (Fixed(), "cannot be exported for any batch size: axis 0 of the input is fixed at 2"),
        (
            Across(),
            "Across cannot be exported for any batch size: the neurons fire take 4 time steps from "
            "2 images and 6 from 3",
        ),
    ],
    ids=["no ONNX operator", "foreign operator", "fixed batch", "images as time steps"],
)
def test_what_cannot_be_exported_is_named_and_nothing_is_left(
    wrong: nn.Module, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        psvit.export(wrong.eval(), images(2), tmp_path / "net.onnx", n=4)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"format": "tflite"}, OptionError, "no format is called 'tflite': expected one of onnx"),
        ({"weights": "int4"}, OptionError, "weights 'int4': expected one of float32, int8"),
        ({"format": "pt2"}, OptionError, "files end in .pt2: name it so"),
        (
            {"format": "pt2", "path": "a.pt2", "weights": "int8"},
            OptionError,
            "go with format onnx alone",
        ),
        ({"example_inputs": torch.rand(1, 2, 6, 6)}, ModelError, "expected two images or more"),
        ({"path": "missing/net.onnx"}, OutputError, "missing is not a folder"),
        ({"path": "."}, OutputError, "is a folder"),
    ],
)
def test_bad_input(options: dict, error: type, message: str, tmp_path: Path) -> None:
    given = {"example_inputs": images(2), "path": "net.onnx", **options}
    given["path"] = tmp_path / given["path"]
    with pytest.raises(error, match=message):
        psvit.export(model(), **given)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_not_replaced(onnx_file: Export) -> None:
    with pytest.raises(OutputError, match="exists: give another file, or --force"):
        psvit.export(model(), images(2), onnx_file.path)


def test_without_the_package_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "psvit.export.to_onnx", raising=False)
    with pytest.raises(MissingExtra, match=r"psvit\[onnx\]"):
        psvit.export(model(), images(2), tmp_path / "net.onnx")


@pytest.mark.parametrize("suffix", [".onnx", ".pt2", ".xml"])
def test_a_damaged_file_is_said_to_be_one(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"net{suffix}"
    path.write_bytes(b"nothing of the kind" * 50)
    with pytest.raises(CheckpointError, match="net"):
        open_export(path)
    with pytest.raises(OutputError, match="not an exported model"):
        open_export(tmp_path / "net.txt")
