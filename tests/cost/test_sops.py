"""SOPs, rates and energy against counts made by hand, and what is and is not a spike."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

from psvit.capture import capture
from psvit.cost import Activity, LayerRate, Rates, energy_pj, layer_energy_pj, observe
from psvit.cost.positions import Axis, reach
from psvit.errors import DataError, ModelError
from tests.cost.test_macs import Calls


def watched(module: nn.Module, *batches: Any, limit: int | None = None) -> Activity:
    """The module recorded on the first batch and observed on all."""
    first = batches[0]
    example = (first,) if isinstance(first, Tensor) else first
    inputs = [x for x in example if x.is_floating_point()]
    return observe(capture(module.eval(), inputs, check=False), batches, limit=limit)


def only(activity: Activity) -> LayerRate:
    """The one layer that there is."""
    (layer,) = activity.rates.layers.values()
    return layer


def spikes(*shape: int, rate: float = 0.3, seed: int = 0) -> Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < rate).float()


def test_a_linear_layer_accumulates_once_a_spike_and_output() -> None:
    x = torch.tensor([[1.0, 0, 1, 0, 0], [0, 0, 1, 0, 0]])
    layer = only(watched(nn.Linear(5, 7), x))
    # 3 spikes in 2 images reach 7 outputs each
    assert layer == LayerRate("Linear", (0.3,), (True,), macs_dense=35.0, sops=10.5)
    assert (layer.spike_driven, layer.macs) == (True, 0.0)


def test_real_values_are_macs() -> None:
    x = torch.tensor([[1.0, 0, 0.5, 0, 0], [0, 0, 1, 0, 0]])
    activity = watched(nn.Linear(5, 7), x)
    assert only(activity) == LayerRate("Linear", (0.3,), (False,), macs_dense=35.0, sops=0.0)
    assert (activity.rates.macs, activity.rates.sops) == (35.0, 0.0)


@pytest.mark.parametrize(
    ("row", "column", "outputs"), [(0, 0, 4), (0, 2, 6), (2, 2, 9), (4, 4, 4), (4, 1, 6)]
)
def test_a_spike_at_the_border_reaches_fewer_outputs(row: int, column: int, outputs: int) -> None:
    x = torch.zeros(2, 1, 5, 5)
    x[1, 0, row, column] = 1
    assert only(watched(nn.Conv2d(1, 8, 3, padding=1), x)).sops == outputs * 8 / 2


def test_strides_pass_positions_by() -> None:
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 1, 1] = 1  # a 1x1 kernel with stride 2 looks at even positions only
    assert only(watched(nn.Conv2d(1, 8, 1, stride=2), x)).sops == 0
    x[0, 0, 2, 2] = 1
    assert only(watched(nn.Conv2d(1, 8, 1, stride=2), x)).sops == 8


CONVOLUTIONS = [
    nn.Conv1d(4, 6, 3, padding=2, dilation=2),
    nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2),
    nn.Conv2d(4, 8, (3, 2), stride=(1, 2), padding="valid", groups=4),
    nn.Conv2d(4, 6, (3, 4), padding="same", dilation=(1, 2)),
    nn.Conv2d(4, 6, 3, padding=2, padding_mode="circular"),
    nn.Conv2d(4, 6, 3, padding=2, padding_mode="reflect"),
    nn.Conv2d(4, 6, 3, padding=2, padding_mode="replicate"),
    nn.Conv3d(4, 6, 2, stride=2, padding=1),
    nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1),
    nn.ConvTranspose2d(4, 6, 3, stride=(2, 1), padding=(1, 2), groups=2, dilation=2),
]


@pytest.mark.parametrize("conv", CONVOLUTIONS, ids=str)
def test_any_convolution_counts_as_one_with_ones_for_weights(conv: nn.Module) -> None:
    size = {"1": (9,), "2": (9, 7), "3": (5, 4, 3)}[type(conv).__name__[-2]]
    x = spikes(3, 4, *size)
    sops = only(watched(conv, x)).sops
    with torch.no_grad():
        conv.weight.fill_(1.0)
        conv.bias.zero_()
        assert sops == pytest.approx(float(conv(x).sum()) / 3, rel=1e-6)


FUNCTIONS: list[tuple[Callable[..., Tensor], tuple[int, ...]]] = [
    (F.linear, (6, 5)),
    (lambda x, w: F.conv1d(x, w, None, 2, 1, 1, 2), (6, 2, 3)),
    (lambda x, w: F.conv_transpose1d(x, w, None, 2, 1, 0, 2, 1), (4, 3, 3)),
    (lambda x, w: x @ w, (5, 6)),
    (lambda x, w: x.matmul(w), (5,)),
    (lambda x, w: torch.einsum("bnc,cd->bdn", x, w), (5, 6)),
    (lambda x, w: torch.einsum("...c,cd->...d", x, w), (5, 6)),
    (lambda x, w: w.__rmatmul__(x), (5, 6)),
]


@pytest.mark.parametrize(("function", "weight"), FUNCTIONS)
def test_functions_count_like_layers(function: Callable[..., Tensor], weight: Any) -> None:
    x = spikes(3, 4, 5)
    sops = only(watched(Calls(function, *weight), x)).sops
    assert sops == pytest.approx(float(function(x, torch.ones(weight)).sum()) / 3)


PRODUCTS: list[Callable[[Tensor, Tensor], Tensor]] = [
    lambda q, k: q @ k.transpose(-1, -2),
    lambda q, k: torch.bmm(q, k.transpose(1, 2)),
    lambda q, k: torch.einsum("bnc,bmc->bnm", q, k),
    lambda q, k: torch.einsum("bnc,bmd->bnmcd", q, k),
    lambda q, k: torch.baddbmm(torch.zeros(1, 1, 1), q, k.transpose(1, 2)),
]


class Two(nn.Module):
    """A function of two inputs."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.function(a, b)


@pytest.mark.parametrize("product", PRODUCTS)
def test_two_spike_tensors_accumulate_where_spikes_meet(product: Callable[..., Tensor]) -> None:
    q, k = spikes(2, 4, 5), spikes(2, 6, 5, seed=1)
    layer = only(watched(Two(product), (q, k)))
    assert layer.spikes == (True, True)
    assert layer.rates == pytest.approx((float(q.mean()), float(k.mean())))
    assert layer.sops == float(product(q, k).sum()) / 2


def test_spikes_times_real_values_reach_their_fan_out() -> None:
    attention, v = torch.rand(2, 4, 6), spikes(2, 6, 5)
    layer = only(watched(Two(torch.matmul), (attention, v)))
    assert layer.spikes == (False, True)
    assert layer.sops == float(v.sum()) * 4 / 2


def test_attention_kernels_are_scores_and_a_mix_by_real_weights() -> None:
    q, k = spikes(2, 1, 4, 5), spikes(2, 1, 6, 5, seed=1)
    module = Two(lambda q, k: F.scaled_dot_product_attention(q, k, k))
    scores, mix = watched(module, (q, k)).rates.layers.values()
    assert scores.sops == float((q @ k.transpose(-1, -2)).sum()) / 2
    assert mix.sops == float(k.sum()) * 4 / 2
    assert (scores.macs_dense, mix.macs_dense) == (4 * 6 * 5, 4 * 6 * 5)


class Fires(nn.Module):
    """A real-valued layer, a neuron over T steps, what comes between, and a counted layer."""

    def __init__(
        self, between: Callable[[Tensor], Tensor], rounds: bool = False, most: int = 4
    ) -> None:
        super().__init__()
        self.neuron: nn.Module = neuron.IFNode(step_mode="m", v_reset=None)
        self.between = between
        self.rounds, self.most = rounds, most
        self.fc = nn.Linear(3, 10)

    def forward(self, x: Tensor) -> Tensor:
        if self.rounds:
            return self.fc(self.between(torch.round(x.clamp(0, self.most))))
        return self.fc(self.between(self.neuron(x))).mean(0)


# [T, B, 3] with T = 4: currents of 0.5, 1 and 0.25 fire 2, 4 and 1 times in 4 steps
CURRENTS = torch.tensor([0.5, 1.0, 0.25]).expand(4, 2, 3).contiguous()


def test_a_neuron_fires_as_computed_by_hand() -> None:
    rates = watched(Fires(lambda s: s), CURRENTS).rates
    assert rates.neurons == {"neuron": pytest.approx(7 / 12)}
    assert rates.layers["fc"].rates == (pytest.approx(7 / 12),)


BETWEEN = [
    # what happens to the spikes, whether they still are, how much one value counts
    (lambda s: s, True, 1),
    (lambda s: s.transpose(1, 2).flatten(0, 1).unflatten(0, (4, 3)).transpose(1, 2), True, 1),
    (lambda s: s * 0.25, True, 1),
    (lambda s: s / 3, True, 1),
    (lambda s: torch.cat([s, s])[:4], True, 1),
    (lambda s: -s, False, 0),  # no rule says that a minus sign moves
    (lambda s: s + s, False, 0),  # whole numbers, but of several bits
    (lambda s: s.mean(0, keepdim=True).expand(4, -1, -1), False, 0),
    (lambda s: torch.softmax(s, -1), False, 0),
    (lambda s: (s > 0).float(), True, 1),
]


@pytest.mark.parametrize(("between", "spiking", "times"), BETWEEN)
def test_moved_and_scaled_spikes_are_spikes_and_sums_are_not(
    between: Callable[[Tensor], Tensor], spiking: bool, times: int
) -> None:
    layer = watched(Fires(between), CURRENTS).rates.layers["fc"]
    assert layer.spike_driven == spiking
    # 7 spikes an image reach 10 outputs
    assert layer.sops == pytest.approx(70 * times)


@pytest.mark.parametrize("scale", [1.0, 0.25, 1 / 3])
def test_an_integer_neuron_fires_as_often_as_its_value_says(scale: float) -> None:
    x = torch.tensor([[0.0, 1.0, 3.0], [4.0, 0.0, 2.2]])
    layer = watched(Fires(lambda s: s * scale, rounds=True), x).rates.layers["fc"]
    assert layer.spikes == (True,)
    assert layer.rates == (pytest.approx(4 / 6),)
    assert layer.sops == pytest.approx((1 + 3 + 4 + 2) * 10 / 2)


def test_the_unit_of_an_integer_neuron_is_learned_over_all_batches() -> None:
    # the first batch alone looks like spikes worth 2
    first, second = torch.tensor([[0.0, 2.0, 4.0]] * 2), torch.tensor([[1.0, 0.0, 3.0]] * 2)
    layer = watched(Fires(lambda s: s * 0.25, rounds=True), first, second).rates.layers["fc"]
    assert layer.sops == pytest.approx((2 + 4 + 1 + 3) * 10 / 2)
    # none fires once here: only 2 and 3 together tell that the unit is 1
    third = torch.tensor([[0.0, 2.0, 3.0]] * 2)
    layer = watched(Fires(lambda s: s * 0.25, rounds=True), third).rates.layers["fc"]
    assert layer.sops == pytest.approx((2 + 3) * 10)


@pytest.mark.parametrize(("largest", "spiking"), [(16.0, True), (17.0, False)])
def test_many_levels_are_a_quantised_number(largest: float, spiking: bool) -> None:
    module = Fires(lambda s: s, rounds=True, most=100)
    layer = watched(module, torch.tensor([[1.0, 5.0, largest]] * 2)).rates.layers["fc"]
    assert layer.spikes == (spiking,)


def test_one_real_value_in_a_late_batch_makes_it_real() -> None:
    a, b = spikes(2, 3, 4), spikes(2, 4, 5, seed=1)
    real = b.clone()
    real[0, 0, 0] = 0.5
    layer = only(watched(Two(torch.matmul), (a, b), (a, real)))
    assert layer.spikes == (True, False)
    assert layer.sops == float(a.sum()) * 5 / 2  # fan-out in both batches, not meetings in one


def test_weights_of_zeros_and_ones_are_no_spikes() -> None:
    layer = nn.Linear(3, 4)
    nn.init.ones_(layer.weight)
    assert not only(watched(layer, torch.rand(2, 3) + 0.5)).spike_driven
    function = Calls(F.linear, 4, 3)
    nn.init.ones_(function.w)
    assert only(watched(function, torch.rand(2, 3) + 0.5)).spikes == (False,)


def test_all_steps_of_an_image_count_and_batches_do_not_matter() -> None:
    module = Fires(lambda s: s)
    graph = capture(module.eval(), CURRENTS, check=False)
    # four images one by one, or at once, [T, B, 3]
    x = torch.rand(4, 4, 3, generator=torch.Generator().manual_seed(1))
    at_once = observe(graph, [x]).rates
    one_by_one = observe(graph, list(x.split(1, 1))).rates
    assert at_once.n == one_by_one.n == 4
    assert at_once.layers["fc"].sops == pytest.approx(one_by_one.layers["fc"].sops)


def test_a_limit_cuts_the_last_batch() -> None:
    x = spikes(6, 5)
    activity = watched(nn.Linear(5, 2), x[:4], x[4:], limit=5)
    assert activity.rates.n == 5
    assert only(activity).sops == pytest.approx(float(x[:5].sum()) * 2 / 5)


def test_no_batch_is_read_beyond_the_limit() -> None:
    def batches() -> Iterator[Tensor]:
        yield spikes(2, 5)
        yield spikes(2, 5)
        raise AssertionError("read too far")

    graph = capture(nn.Linear(5, 2), spikes(2, 5), check=False)
    assert observe(graph, batches(), limit=4).rates.n == 4


def test_labels_may_come_along() -> None:
    x = spikes(4, 5)
    activity = watched(nn.Linear(5, 2), (x, torch.zeros(4, dtype=torch.int64)))
    assert activity.rates.n == 4


def test_everything_is_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), neuron.IFNode(), nn.Dropout(0.5))
    graph = capture(model, torch.rand(2, 1, 5, 5), check=False)
    graph.module.train()
    graph.module[3].eval()
    before = {name: value.clone() for name, value in graph.module.state_dict().items()}
    torch.manual_seed(3)
    random = torch.get_rng_state()
    observe(graph, [torch.rand(2, 1, 5, 5, generator=torch.Generator().manual_seed(0))])
    assert torch.equal(torch.get_rng_state(), random)
    assert [m.training for m in graph.module] == [True, True, True, False]
    assert graph.module[2].v == 0.0
    after = graph.module.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_what_a_forward_counts_in_buffers_is_taken_back() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(5, 2)
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            self.calls.add_(1)
            return self.fc(x) + self.calls

    graph = capture(Counts(), spikes(2, 5), check=False)
    observe(graph, [spikes(2, 5)])
    assert graph.module.calls == 0


def test_what_cannot_be_counted_is_said() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair = nn.Bilinear(3, 3, 4)

        def forward(self, x: Tensor) -> Tensor:
            y = torch.einsum("bi,bi,bi->b", x, x, x)
            return self.pair(x, x) + torch.einsum("ij,ij,ij->i", x, x, x)[:, None] + y[:, None]

    rates = watched(Odd(), torch.rand(2, 3)).rates
    assert rates.uncounted == (
        "bilinear (bilinear)",
        "einsum (counted as real-valued)",
        "einsum#2 (counted as real-valued)",
    )


@pytest.mark.parametrize(
    ("batches", "error", "message"),
    [
        ([], DataError, "no images"),
        ([torch.zeros(0, 5)], DataError, "no images"),
        (["image"], DataError, "the data yield a str, expected images"),
        ([(3, 4)], DataError, "the data yield a tuple"),
        ([torch.zeros(2, 6)], ModelError, r"fails on a batch of shape \[2, 6\]: mat1 and mat2"),
    ],
)
def test_bad_data_are_refused_in_one_line(batches: Any, error: Any, message: str) -> None:
    graph = capture(nn.Linear(5, 2), torch.rand(2, 5), check=False)
    with pytest.raises(error, match=message) as caught:
        observe(graph, batches)
    assert "\n" not in str(caught.value)


def test_rates_go_through_json_unchanged() -> None:
    rates = watched(Fires(lambda s: s), CURRENTS).rates
    assert Rates.from_dict(json.loads(rates.to_json())) == rates
    with pytest.raises(DataError, match="version 7"):
        Rates.from_dict({**rates.to_dict(), "psvit_rates": 7})
    with pytest.raises(DataError, match="KeyError: 'layers'"):
        Rates.from_dict({k: v for k, v in rates.to_dict().items() if k != "layers"})


def test_energy_by_the_convention() -> None:
    assert energy_pj(macs=1000, sops=500) == pytest.approx(4600 + 450)
    real = LayerRate("Conv2d", (1.0,), (False,), macs_dense=100.0, sops=0.0)
    driven = LayerRate("Linear", (0.1,), (True,), macs_dense=1000.0, sops=100.0)
    rates = Rates(1, 0, {"stem": real, "fc": driven}, {})
    assert layer_energy_pj(rates) == {"stem": pytest.approx(460), "fc": pytest.approx(90)}
    assert sum(layer_energy_pj(rates).values()) == pytest.approx(energy_pj(rates.macs, rates.sops))


def test_reach_of_a_strided_axis() -> None:
    assert reach(Axis(kernel=2, stride=2), 5).tolist() == [1, 1, 1, 1, 0]
    assert reach(Axis(kernel=3, padding=1, mode="circular"), 4).tolist() == [3, 3, 3, 3]
    assert reach(Axis(kernel=3, transposed=True, padding=1), 3).tolist() == [2, 3, 2]
