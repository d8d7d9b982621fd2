"""A model made faster computes what it computed, and nothing else of it changes."""

from __future__ import annotations

import pytest
import torch
from spikingjelly.activation_based import layer, neuron
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import psvit
from psvit.errors import ModelError
from psvit.inference import faster, fold_batchnorm
from psvit.inference.layout import Pointwise
from psvit.models import build
from psvit.neurons import FusedNeuron, reset_state
from tests.zoo.wake import wake

SMALL = {
    "spikformer-digits": {"weights": False, "embed_dims": 32, "depths": 1},
    "sdt-cifar10": {"weights": False, "embed_dims": 32, "depths": 1},
    "meta-spikeformer-cifar10": {
        "weights": False,
        "embed_dims": (8, 16, 16, 16),
        "depths": (1, 1),
    },
}


def awake(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    model = build(name, **SMALL[name])
    size = (1, 16, 16) if name == "spikformer-digits" else (3, 32, 32)
    images = torch.rand(3, *size, generator=torch.Generator().manual_seed(1))
    return wake(model, (images,)).double(), images.double()


def output(model: nn.Module, x: Tensor) -> Tensor:
    reset_state(model)
    with torch.no_grad():
        return model(x)


@pytest.mark.parametrize("name", SMALL)
def test_folded_and_fused_equal_the_model_in_float64(name: str) -> None:
    model, images = awake(name)
    expected = output(model, images)
    assert expected.std() > 1e-3
    keys = model.state_dict().keys()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    names = {n for n, _ in model.named_modules()}
    fused = faster(model, images[:2], folded=False)
    assert torch.equal(output(fused, images), expected)
    assert fused.state_dict().keys() >= keys
    folded = fold_batchnorm(model, images[:2])
    torch.testing.assert_close(output(folded, images), expected, rtol=0, atol=1e-9)
    both = faster(model, images[:2])
    torch.testing.assert_close(output(both, images), expected, rtol=0, atol=1e-9)
    for made in (fused, folded, both):
        assert {n for n, _ in made.named_modules()} >= names - {
            n for n in names if ".surrogate_function" in n
        }
    assert not any(type(m).__name__ == "LIFNode" for m in both.modules())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(output(model, images), expected)


def test_every_norm_of_a_spikformer_is_folded_and_no_batch_of_it_is_fixed() -> None:
    model, images = awake("spikformer-digits")
    folded = psvit.fold_batchnorm(model, images[:2])
    assert not any(isinstance(m, _BatchNorm) for m in folded.modules())
    one = output(folded, images[:1])
    torch.testing.assert_close(one, output(folded, images)[:, :1], rtol=0, atol=1e-9)


def test_one_forward_leaves_nothing_to_the_next() -> None:
    model, images = awake("spikformer-digits")
    fast = psvit.faster(model, images[:2])
    with torch.no_grad():
        assert torch.equal(fast(images), fast(images))


def test_it_is_for_inference_alone() -> None:
    model, images = awake("spikformer-digits")
    fast = faster(model, images[:2])
    with pytest.raises(ModelError, match="inference alone"):
        fast.train()(images)


class Parts(nn.Module):
    """Norms that must stay: see the test."""

    def __init__(self) -> None:
        super().__init__()
        self.read_twice = nn.Conv1d(4, 4, 1)
        self.norm1 = nn.BatchNorm1d(4)
        self.called_twice = nn.Conv1d(4, 4, 1)
        self.norm2 = nn.BatchNorm1d(4)
        self.crossed = nn.Conv1d(4, 4, 1)
        self.norm3 = nn.BatchNorm1d(4)
        self.first = nn.BatchNorm1d(4)
        self.twin1, self.twin2 = nn.Conv1d(4, 4, 1), nn.Conv1d(4, 4, 1)
        self.twin2.weight = self.twin1.weight
        self.norm4 = nn.BatchNorm1d(4)
        self.good = nn.Conv1d(4, 6, 1, bias=False)
        self.norm5 = nn.BatchNorm1d(6, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        y = self.read_twice(x)
        x = self.norm1(y) + y
        x = self.norm2(self.called_twice(self.called_twice(x)))
        x = self.norm3(self.crossed(x).transpose(1, 2))  # its channels are positions
        x = self.norm4(self.twin1(x.relu())) + self.twin2(x)
        return self.norm5(self.good(x))


def test_only_norms_that_follow_a_layer_of_their_own_are_folded() -> None:
    torch.manual_seed(0)
    model = Parts().double()
    x = torch.randn(3, 4, 4, dtype=torch.float64)
    with torch.no_grad():
        for _ in range(3):
            model.train()(x)
    model.eval()
    folded = fold_batchnorm(model, x[:2])
    left = {n for n, m in folded.named_modules() if isinstance(m, _BatchNorm)}
    assert left == {"first", "norm1", "norm2", "norm3", "norm4"}
    torch.testing.assert_close(output(folded, x), output(model, x), rtol=0, atol=1e-12)


class Shared(nn.Module):
    """One neuron that fires twice a forward, and remembers in between; one that fires once."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = layer.Linear(4, 4, step_mode="m")
        self.twice = neuron.LIFNode(step_mode="m")
        self.once = neuron.LIFNode(step_mode="m")

    def forward(self, x: Tensor) -> Tensor:
        x = 3 * x.unsqueeze(0).repeat(3, 1, 1)
        return self.once(self.linear(self.twice(x) + self.twice(x))).mean(0)


def test_a_neuron_that_is_called_twice_keeps_its_state_between() -> None:
    torch.manual_seed(1)
    model, x = Shared(), torch.rand(5, 4)
    fast = faster(model, x[:2])
    assert isinstance(fast.once, FusedNeuron)
    assert not isinstance(fast.twice, FusedNeuron)
    assert torch.equal(output(fast, x), output(model, x))


class Viewed(nn.Module):
    """Takes a view of a convolution's output that there is in one layout only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 6, 3, padding=1), nn.Linear(6 * 64, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).view(x.shape[0], -1))


def test_convolutions_lie_channels_last_where_the_forward_can_do_with_it() -> None:
    model, images = awake("sdt-cifar10")
    model, images = model.float(), images.float()  # PyTorch's own code for float64 has one layout
    fast = psvit.faster(model, images[:2])
    seen = []
    for layer_ in fast.modules():
        if isinstance(layer_, nn.Conv2d | Pointwise):
            layer_.register_forward_hook(lambda m, a, out: seen.append((type(m), out)))
    output(fast, images)
    assert sum(kind is Pointwise for kind, _ in seen) > 5
    assert len({kind for kind, _ in seen}) == 2
    assert all(out.movedim(-3, -1).is_contiguous() for _, out in seen)
    viewed, x = Viewed().eval(), torch.rand(3, 3, 8, 8)
    fast = psvit.faster(viewed, x[:2])
    torch.testing.assert_close(fast(x), viewed(x))
    assert fast.conv.weight.is_contiguous()
