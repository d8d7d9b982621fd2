"""The law of SOPs: what a removal leaves is priced as it is measured on the rewritten model."""

from __future__ import annotations

import pytest
import torch

from psvit.capture import capture
from psvit.cost import Activity, energy_pj, observe, prepare
from psvit.groups import find_groups, make_plan
from psvit.records import Figures, Graph, Groups, Plan, Removal
from psvit.rewrite import rewrite, zeroed
from tests.cost.test_rewritten import removals
from tests.zoo import ZOO
from tests.zoo.case import Case, float64
from tests.zoo.wake import wake

# one of each way in which channels meet an operation that counts; they run in a few seconds each
NAMES = [
    "fused_chunk",
    "split_bmm",
    "split_einsum",
    "split_talking_heads",
    "multi_query_sdpa",
    "sdpa",
    "grouped",
    "grouped_query_expand",
    "scrambled_view",
    "spike_driven_talking",
    "query_key_token_t4",
    "depthwise",
    "transposed_grouped",
    "functional_convolutions",
    "matrix_products",
    "block_diagonal",
    "shared_block",
    "flattened",
    "conv1d_over_tokens",
    "channel_shuffle_grouped",
    "user_lif_t4",
    "sj_spikformer_t4",
]


def ready(case: Case) -> tuple[Graph, Groups]:
    torch.manual_seed(0)
    graph = capture(wake(case.build().double(), case.inputs(2)), case.inputs(2), check=False)
    return graph, find_groups(graph)


def seen_on(graph: Graph, plan: Plan, case: Case, batch: int) -> Activity:
    """The rewritten model, recorded anew and run."""
    small = capture(rewrite(graph, plan), case.inputs(2), check=False)
    return observe(small, [case.inputs(batch)])


def agree(priced: Figures, seen: Activity) -> bool:
    assert priced.sops is not None
    assert priced.energy_pj is not None
    return priced.sops == pytest.approx(seen.rates.sops) and priced.energy_pj == pytest.approx(
        energy_pj(seen.rates.macs, seen.rates.sops)
    )


@pytest.mark.parametrize("name", NAMES)
def test_firing_as_in_the_zeroed_model_a_removal_costs_what_the_rewritten_one_shows(
    name: str,
) -> None:
    # The kept channels of the zeroed model fire as those of the rewritten model: any removal.
    case = ZOO[name]
    with float64():
        graph, groups = ready(case)
        for removal in removals(graph, groups)[1:]:
            plan = make_plan(graph, groups, removal)
            zero = Graph(zeroed(graph, plan), graph.forwards, graph.inputs, graph.fixed)
            # three images, recorded with two
            activity = observe(zero, [case.inputs(3)], groups)
            small = seen_on(graph, plan, case, 3)
            assert activity.rates.estimated == ()
            assert agree(prepare(graph, groups, activity).measure(removal), small)
            assert list(activity.rates.layers) == list(small.rates.layers)


class Readout(torch.nn.Module):
    """Two spiking layers; nothing fires after the second, so removing its channels moves none."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(2, 6, 3, padding=1)
        self.mix = torch.nn.Conv2d(6, 8, 3, padding=1, stride=2)
        self.head = torch.nn.Linear(8 * 9, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = (self.mix((self.stem(x) > 0.1).to(x)) > 0).to(x)
        return self.head(x.flatten(1))


def test_what_changes_no_firing_is_predicted_from_the_dense_model() -> None:
    torch.manual_seed(0)
    images = torch.rand(7, 2, 6, 6)
    graph = capture(Readout(), images[:2], check=False)
    groups = find_groups(graph)
    last = next(
        g for g in groups.prunable if any((s.tensor, s.dim) == ("mix.weight", 0) for s in g.slots)
    )
    removal: Removal = {last.id: [0, 3, 4]}
    meter = prepare(graph, groups, observe(graph, images.split(3), groups))
    small = capture(rewrite(graph, make_plan(graph, groups, removal)), images[:2], check=False)
    seen = observe(small, [images])
    assert agree(meter.measure(removal), seen)
    dense = meter.measure({})
    assert dense.sops is not None
    assert seen.rates.sops < 0.8 * dense.sops


def test_figures_without_an_activity_have_no_sops() -> None:
    graph = capture(Readout(), torch.rand(2, 2, 6, 6), check=False)
    figures = prepare(graph, find_groups(graph)).measure({})
    assert (figures.sops, figures.energy_pj) == (None, None)


class HeadsFirst(torch.nn.Module):
    """Attention with heads folded in front of the images: [B, N, 8] -> [2 B, N, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k = torch.nn.Linear(6, 8), torch.nn.Linear(6, 8)
        self.v, self.out = torch.nn.Linear(6, 8), torch.nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, n, _ = x.shape
        q, k, v = (
            (f(x) > 0).to(x).reshape(b, n, 2, 4).permute(2, 0, 1, 3).reshape(2 * b, n, 4)
            for f in (self.q, self.k, self.v)
        )
        y = torch.bmm(torch.bmm(q, k.transpose(1, 2)), v)
        y = y.reshape(2, b, n, 4).permute(1, 2, 0, 3).reshape(b, n, 8)
        return self.out(y).mean(1)


def test_channels_that_cannot_be_told_apart_are_estimated_and_named() -> None:
    torch.manual_seed(0)
    images = torch.randn(6, 3, 6)
    graph = capture(HeadsFirst(), images[:2], check=False)
    groups = find_groups(graph)
    (removal,) = (head.channels for head in groups.heads[:1])
    fits = prepare(graph, groups, observe(graph, [images[:2]], groups))
    assert fits.activity is not None
    assert fits.activity.rates.estimated == ()
    # two images and one come as [2 * 2, ..] and [2 * 1, ..]: the second is no multiple of the
    # pattern of heads along the first axis that was recorded
    activity = observe(graph, [images[:2], images[2:3]], groups)
    products = ("bmm", "bmm#2")
    assert activity.rates.estimated == products
    exact = observe(graph, [images[:3]]).rates
    layers = activity.rates.layers
    assert [layers[p].sops for p in products] == [exact.layers[p].sops for p in products]
    # the head that is left has half the MACs, so half of the SOPs are estimated to be
    meter = prepare(graph, groups, activity)
    whole = sum(layers[p].sops for p in products)
    assert meter.measure({}).sops == pytest.approx(whole)
    assert meter.measure(removal).sops == pytest.approx(whole / 2)
