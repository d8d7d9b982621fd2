"""What `psvit prune` and `psvit evaluate` tell of spikes: figures, rates, both energies."""

from __future__ import annotations

import json

import pytest

from psvit.cost import Rates, energy_pj
from psvit.cost.jelly import MODEL


@pytest.fixture(scope="module")
def pruned(tmp_path_factory):
    """A folder with a pruned model."""
    from psvit.cli.app import main

    out = tmp_path_factory.mktemp("firing") / "out"
    command = ["prune", "spikformer-digits", "--data", "digits", "--limit", "24"]
    assert main([*command, "--save", "memory=20%", "-o", str(out)]) == 0
    return out


def test_metrics_tell_rates_and_both_energies_before_and_after(pruned):
    metrics = json.loads((pruned / "metrics.json").read_text())
    before, after = (Rates.from_dict(metrics[f"rates_{when}"]) for when in ("before", "after"))
    assert (before.n, after.n) == (24, 24)
    assert list(before.layers) == list(after.layers)
    assert list(before.neurons) == list(after.neurons)
    for rates, when in ((before, "before"), (after, "after")):
        figures = metrics[when]
        assert figures["sops"] == rates.sops > 0
        assert figures["energy_pj"] == energy_pj(rates.macs, rates.sops)
        dense = sum(layer.macs_dense for layer in rates.layers.values())
        assert dense == figures["macs"]
        other = metrics[f"memory_energy_{when}"]
        assert other["model"] == MODEL
        assert other["energy_pj"] > 10 * figures["energy_pj"]
    assert after.sops < before.sops
    assert metrics["rates_after"]["neurons"] == after.neurons


def test_a_folder_is_evaluated_to_the_same_figures(run, pruned):
    ended = run("evaluate", pruned, "--limit", "24", "--json")
    told = json.loads(ended.out)
    saved = json.loads((pruned / "metrics.json").read_text())
    assert told["sops"] == pytest.approx(saved["after"]["sops"])
    assert told["rates"]["layers"] == saved["rates_after"]["layers"]
    assert "SOPs an image, spike-driven" in ended.err
    assert "energy an image, 45 nm convention" in ended.err


def test_without_data_nothing_is_said_of_spikes(run, net, tmp_path):
    ended = run(
        "prune", net, "--input-shape", "1,8,8", "--save", "memory=20%", "-o", tmp_path / "out"
    )
    assert ended.code == 0, ended.err
    assert "SOPs" not in ended.err
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["after"]["sops"] is None
    assert "rates_after" not in metrics


def test_a_model_that_cannot_be_observed_is_noted(run, pruned, monkeypatch):
    from psvit.cli import measuring
    from psvit.errors import CaptureError

    def refuse(*args, **kwargs):
        raise CaptureError("scripted code")

    monkeypatch.setattr(measuring, "capture", refuse)
    ended = run("evaluate", pruned, "--limit", "8")
    assert ended.code == 0
    assert "note: SOPs and energy are not measured: scripted code" in ended.err
