"""Moments are exact, streamed, bounded; and what they cannot be is said."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from psvit.calibrate import Moments, collect, patches
from psvit.capture.running import Watcher, run_batch, settled
from psvit.errors import DataError, ModelError
from tests.calibrate.nets import Mixed, Ready, Spikes, ready


@pytest.fixture(scope="module")
def spikes() -> Ready:
    return ready(Spikes, channels=2)


def inputs_of(net: Ready, name: str) -> Tensor:
    """``[G, n, c]``: the rows of a consumer over all images, from one batch of them all."""
    consumer, seen = net.consumer(name), []

    class Look(Watcher):
        def run_node(self, n: torch.fx.Node) -> object:
            for call, source in zip(consumer.calls, consumer.sources, strict=True):
                if call is n:
                    seen.append(self.env[source].clone())
            return super().run_node(n)

    with settled(net.graph, torch.device("cpu"), 0):
        run_batch(net.graph, Look(net.graph), [torch.cat(net.images)])
    return torch.cat([torch.cat(list(patches(consumer.geometry, x)), 1) for x in seen], 1)


@pytest.mark.parametrize("name", ["second.0", "third", "head"])
def test_streamed_moments_are_those_of_all_rows_at_once(spikes: Ready, name: str) -> None:
    rows = inputs_of(spikes, name)
    (part,) = spikes.moments.parts[f"{name}.weight"]
    second = rows.transpose(1, 2) @ rows / rows.shape[1]
    torch.testing.assert_close(part.second, second, rtol=0, atol=1e-12)
    torch.testing.assert_close(part.mean, rows.mean(1), rtol=0, atol=1e-12)
    assert spikes.moments.rows[f"{name}.weight"] == rows.shape[1]
    covariance = part.covariance(0, centred=True)
    expected = torch.cov(rows[0].T, correction=0)
    torch.testing.assert_close(covariance, expected, rtol=0, atol=1e-12)


def test_moments_of_a_grouped_convolution_are_those_of_each_group() -> None:
    net = ready(Mixed)
    rows = inputs_of(net, "grouped")
    (part,) = net.moments.parts["grouped.weight"]
    assert part.second.shape == (2, 36, 36)
    torch.testing.assert_close(part.mean, rows.mean(1), rtol=0, atol=1e-12)
    assert "depthwise.weight" not in net.moments.parts


def test_the_graph_is_as_before(spikes: Ready) -> None:
    before = {k: v.clone() for k, v in spikes.graph.module.state_dict().items()}
    state = torch.get_rng_state()
    again = collect(spikes.graph, spikes.consumers, spikes.images)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, before[k]) for k, v in spikes.graph.module.state_dict().items())
    first, second = (m.parts["second.0.weight"][0].second for m in (again, spikes.moments))
    assert torch.equal(first, second)


def test_rows_beyond_the_bound_are_drawn_from_all_images(
    spikes: Ready, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("psvit.calibrate.moments.FEWEST_ROWS", 64)
    drawn = collect(spikes.graph, spikes.consumers, spikes.images, rows_per_column=1)
    assert 72 <= drawn.rows["second.0.weight"] <= 74  # of 144, for 72 columns
    full = spikes.moments.parts["second.0.weight"][0].mean
    assert float((drawn.parts["second.0.weight"][0].mean - full).abs().max()) < 0.25


def test_what_does_not_fit_is_kept_in_blocks_and_said(spikes: Ready) -> None:
    tight = collect(spikes.graph, spikes.consumers, spikes.images, limit_bytes=9 * 8 * 8 * 8 + 9000)
    parts = tight.parts["second.0.weight"]
    assert [len(part.columns) for part in parts] == [8] * 9  # one a kernel position
    assert parts[1].columns.tolist() == list(range(1, 72, 9))
    full = spikes.moments.parts["second.0.weight"][0]
    for part in parts:
        block = full.second[:, part.columns][:, :, part.columns]
        torch.testing.assert_close(part.second, block, rtol=0, atol=1e-12)
    assert "second.0" in tight.notes[0]
    assert "in blocks" in tight.notes[0]
    tightest = collect(spikes.graph, spikes.consumers, spikes.images, limit_bytes=1)
    columns = torch.cat([part.columns for part in tightest.parts["second.0.weight"]])
    assert sorted(columns.tolist()) == list(range(72))


def test_too_few_images_are_noted(spikes: Ready) -> None:
    few: Moments = collect(spikes.graph, spikes.consumers, [spikes.images[0][:2]])
    assert any("2 calibration images give" in note for note in few.notes)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "no calibration images"),
        ([torch.full((2, 2, 6, 6), float("nan")).double()], "NaN"),
        ([torch.ones(3, 2, 6, 6).double()] * 2, "all 6 calibration images are the same"),
        (["nothing"], "the data yield a str"),
    ],
)
def test_images_that_say_nothing_are_refused(
    spikes: Ready, images: list[Tensor], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        collect(spikes.graph, spikes.consumers, images)


def test_activations_that_are_not_finite_are_refused() -> None:
    net = ready(Mixed)
    with torch.no_grad():
        net.graph.module.get_parameter("wide.weight")[0, 0] = float("inf")
    with pytest.raises(ModelError, match="not finite"):
        collect(net.graph, net.consumers, net.images)
