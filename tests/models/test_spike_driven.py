"""Meta-SpikeFormer and E-SpikeFormer: the authors' names and shapes, and the authors' outputs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from psvit.compat import import_file, legacy_imports
from psvit.errors import ModelError
from psvit.models import build
from psvit.models.integer_neuron import IntegerNeuron
from psvit.models.repconv import BorderedNorm, RepConv
from tests.zoo.case import float64
from tests.zoo.wake import distance, firing_rates, outputs, wake

GOLDEN: dict[str, tuple[dict[str, Any], int, str, float, str]] = {
    "meta-spikeformer-15m": (
        {}, 825, "fa988a7866ab94a7", 15.11, "block4.1.attn.v_conv.0.body.1.bn.running_var [360]"
    ),
    "meta-spikeformer-31m": (
        {}, 825, "7bb148c38ce2e95f", 31.33, "ConvBlock2_2.0.Conv.dwconv.weight [384, 1, 7, 7]"
    ),
    "meta-spikeformer-55m": (
        {}, 825, "d95bcfc3fd72cfda", 55.35, "block3.5.attn.q_conv.0.body.2.0.weight [512, 1, 3, 3]"
    ),
    "meta-spikeformer-55m distilled": (
        {"distilled": True}, 827, "fccfedc7ff2a0c37", 55.99, "head_kd.weight [1000, 640]"
    ),
    "e-spikeformer-5m": (
        {}, 605, "88d9ac1ab0b57dff", 5.11, "block3.0.attn.v_conv.0.weight [512, 128, 1, 1]"
    ),
    "e-spikeformer-10m": (
        {}, 605, "caf2b0362eece6d1", 10.02, "block4.1.conv.dwconv.0.weight [480, 1, 3, 3]"
    ),
    "e-spikeformer-19m": (
        {}, 605, "a15408b31d3500ce", 18.99, "downsample1_1.encode_conv.weight [32, 3, 7, 7]"
    ),
}  # fmt: skip
"""Arguments, tensors, digest of all names and shapes in order, parameters in millions, and one
name. Taken from the authors' definitions (the 15M one: their classes at its widths)."""


def names_and_shapes(model: nn.Module) -> list[str]:
    return [f"{name} {list(tensor.shape)}" for name, tensor in model.state_dict().items()]


@pytest.mark.parametrize("case", GOLDEN)
def test_names_shapes_and_sizes_are_those_of_the_official_checkpoints(case: str) -> None:
    arguments, count, digest, millions, one = GOLDEN[case]
    with torch.device("meta"):
        model = build(case.split()[0], **arguments)
    lines = names_and_shapes(model)
    assert one in lines
    assert len(lines) == count
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest().startswith(digest)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == millions


def test_a_third_of_meta_spikeformer_lies_in_reparameterised_convolutions() -> None:
    with torch.device("meta"):
        model = build("meta-spikeformer-31m")
    inside = sum(
        p.numel() for m in model.modules() if isinstance(m, RepConv) for p in m.parameters()
    )
    assert 0.34 < inside / sum(p.numel() for p in model.parameters()) < 0.36


WIDTHS = {"embed_dims": (8, 16, 32, 40), "num_classes": 10}
PLACE = os.environ.get("PSVIT_ORIGINALS")


@contextmanager
def original(repository: str, file: str) -> Iterator[Any]:
    """The authors' module, unmodified."""
    found = sorted(Path(PLACE).glob(f"*{repository}/{file}")) if PLACE else []
    if not found:
        pytest.skip(f"no clone of {repository}: set PSVIT_ORIGINALS to a folder that holds one")
    with legacy_imports(found[0].parent):
        yield import_file(found[0])


def authors_arguments() -> dict[str, Any]:
    return {
        "img_size_h": 32, "img_size_w": 32, "patch_size": 16, "embed_dim": [8, 16, 32, 40],
        "num_heads": 8, "mlp_ratios": 4, "in_channels": 3, "num_classes": 10,
        "norm_layer": partial(nn.LayerNorm, eps=1e-6), "depths": 8, "sr_ratios": 1,
    }  # fmt: skip


def neurons(model: nn.Module) -> list[Any]:
    return [m for m in model.modules() if hasattr(m, "v_threshold")]


@pytest.mark.parametrize(("T", "distilled"), [(1, False), (4, True)])
def test_meta_spikeformer_computes_what_the_authors_code_computes(T: int, distilled: bool) -> None:
    with original("Spike-Driven-Transformer-V2", "classification/models.py") as authors, float64():
        torch.manual_seed(0)
        theirs = authors.Spiking_vit_MetaFormer(**authors_arguments(), kd=distilled)
        theirs.T = T
        ours = build("meta-spikeformer-31m", T=T, distilled=distilled, **WIDTHS)
        assert [n.v_threshold for n in neurons(ours)] == [n.v_threshold for n in neurons(theirs)]
        x = (torch.randn(3, 3, 32, 32),)
        wake(ours, x)
        theirs.load_state_dict(ours.state_dict())
        for mine, other in zip(neurons(ours), neurons(theirs), strict=True):
            other.v_threshold = mine.v_threshold
        rates = list(firing_rates(ours, x).values())
        assert sum(0.05 < rate < 0.6 for rate in rates) > 0.9 * len(rates)
        for training in (False, True):
            with torch.no_grad():
                mine = outputs(ours.train(training), x)
                other = outputs(theirs.train(training), x)
            # in training the authors' pair of heads is returned as it is, for their loss
            other = [sum(other) / len(other)]
            assert distance(mine, other) <= 1e-9


@pytest.mark.filterwarnings("ignore:.*custom_fwd:FutureWarning")  # the authors' name for it
def test_e_spikeformer_computes_what_the_authors_code_computes() -> None:
    file = "SDT_V3/Classification/Model_Base/models.py"
    with original("Spike-Driven-Transformer-V3", file) as authors, float64():
        torch.manual_seed(0)
        theirs = authors.Spiking_vit_MetaFormer_Spike_SepConv(**authors_arguments())
        ours = build("e-spikeformer-10m", **WIDTHS)
        x = torch.randn(3, 3, 32, 32)
        wake(ours, (x,))
        theirs.load_state_dict(ours.state_dict())
        for training in (False, True):
            mine, other = ours.train(training)(x), theirs.train(training)(x)
            assert mine.std() > 0.1
            assert distance([mine.detach()], [other.detach()]) <= 1e-9
        mine.square().sum().backward()
        other.square().sum().backward()
        gradients = {name: p.grad for name, p in theirs.named_parameters()}
        for name, parameter in ours.named_parameters():
            assert torch.allclose(parameter.grad, gradients[name], rtol=1e-9, atol=1e-9), name


def test_an_integer_neuron_fires_by_its_equation_and_passes_the_gradient_of_the_clip() -> None:
    x = torch.tensor([-1.0, 0.0, 0.4, 0.5, 0.6, 1.5, 3.7, 4.0, 9.0], requires_grad=True)
    spikes = IntegerNeuron(4)(x)
    # halves go to the even neighbour
    assert spikes.tolist() == [0, 0, 0, 0, 0.25, 0.5, 1, 1, 1]
    assert IntegerNeuron(2, unit=1.0)(x).tolist() == [0, 0, 0, 0, 1, 2, 2, 2, 2]
    spikes.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0]


def test_the_border_of_a_norm_is_what_it_makes_of_zero() -> None:
    torch.manual_seed(0)
    with float64():
        norm = BorderedNorm(3)
        for tensor in (norm.bn.weight, norm.bn.bias, norm.bn.running_mean):
            nn.init.normal_(tensor)
        nn.init.uniform_(norm.bn.running_var, 0.5, 2.0)
        x = torch.randn(2, 3, 4, 5)
        padded = norm.eval()(x)
        assert torch.allclose(padded, norm.bn(nn.functional.pad(x, [1, 1, 1, 1])), atol=1e-12)
        # so that a 1x1, the norm and an unpadded 3x3 are one padded 3x3 convolution
        rep = RepConv(3, 2).eval()
        rep.body[1].load_state_dict(norm.state_dict())
        folded = rep(torch.zeros(1, 3, 4, 4))
        one = torch.zeros(1, 3, 4, 4)
        one[0, 1, 0, 0] = 1.0
        assert (rep(one) - folded)[..., 2:, 2:].abs().max() == 0
        assert (rep(one) - folded)[..., :2, :2].abs().min() > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"embed_dims": (8, 16, 32)}, "embed_dims is (8, 16, 32), expected 4"),
        ({"embed_dims": (7, 16, 32, 40)}, "has to be even"),
        ({"embed_dims": (8, 16, 36, 40)}, "multiples of num_heads, 8"),
        ({"depths": 8}, "depths"),
        ({"depths": (1, 0)}, "depths is (1, 0), expected 2"),
        ({"T": 0}, "T is 0"),
    ],
)
def test_sizes_of_which_no_model_can_be_made(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError) as caught:
        build("meta-spikeformer-31m", **arguments)
    assert said in str(caught.value)


def test_the_small_one_keeps_64_tokens_and_fits_into_8_megabytes() -> None:
    model: Any = build("meta-spikeformer-cifar10", weights=False, T=1)
    assert sum(p.numel() for p in model.parameters()) < 2_000_000
    seen: list[torch.Size] = []
    for part in (model.downsample1_2, model.block3[-1], model.block4[-1]):
        part.register_forward_hook(lambda m, x, y: seen.append(y.shape[-2:]))
    assert model(torch.rand(1, 3, 32, 32)).shape == (1, 10)
    assert seen == [(16, 16), (8, 8), (8, 8)]
