"""Points with compensation are those of compensated models; files of another kind are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import psvit
from psvit.calibrate import calibrate
from psvit.errors import PlanError
from psvit.outputs import kl_per_image, predict
from psvit.records import Removal
from psvit.recover import cut
from psvit.sensitivity import check_curves, curves_from_json, curves_to_json
from psvit.sensitivity.trials import list_trials
from tests.sensitivity.tiny import GRID, Steps, Tiny, journal_of, tiny


@pytest.mark.parametrize("steps", [False, True])
def test_each_point_is_the_compensated_model_of_that_removal(spiking: Tiny, steps: bool) -> None:
    net = tiny(Steps) if steps else spiking
    dense = calibrate(net.graph, net.groups, net.batches)
    scores = psvit.saliency(net.graph, net.groups)
    curves = net.analyse(compensator=dense)
    plain = net.analyse()
    before = predict(cut(net.graph, net.groups, {}), net.batches, "cpu")

    def kl(removal: Removal) -> float:
        after = predict(cut(net.graph, net.groups, removal, dense), net.batches, "cpu")
        return float(kl_per_image(before, after).mean())

    trials = list_trials(net.graph, net.groups, scores, GRID).items
    for trial, point in zip(trials, curves.points, strict=True):
        assert point.kl == pytest.approx(kl(trial.removal), abs=1e-9)
    assert any(a.kl != b.kl for a, b in zip(curves.points, plain.points, strict=True))
    assert sum(p.kl for p in curves.points) < sum(p.kl for p in plain.points)


def test_the_model_is_as_before(spiking: Tiny) -> None:
    before = {k: v.clone() for k, v in spiking.graph.module.state_dict().items()}
    spiking.analyse(compensator=calibrate(spiking.graph, spiking.groups, spiking.batches))
    after = spiking.graph.module.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in before.items())


def test_an_analysis_of_another_kind_is_refused(spiking: Tiny, tmp_path: Path) -> None:
    dense = calibrate(spiking.graph, spiking.groups, spiking.batches)
    made = spiking.analyse(compensator=dense, journal=journal_of(tmp_path))
    again = curves_from_json(curves_to_json(made))
    assert again.settings["recover"] == "obs"
    check_curves(again, spiking.graph, compensated=True)
    with pytest.raises(PlanError, match=r"made with --recover obs.*--recover none"):
        check_curves(again, spiking.graph, compensated=False)
    with pytest.raises(PlanError, match=r"--recover none.*--recover obs"):
        check_curves(spiking.analyse(), spiking.graph, compensated=True)
    with pytest.raises(PlanError, match="its recover is"):
        spiking.analyse(journal=journal_of(tmp_path))
    other = calibrate(spiking.graph, spiking.groups, spiking.batches[:1])
    with pytest.raises(PlanError, match="calibration"):
        spiking.analyse(compensator=other, journal=journal_of(tmp_path))


def test_pruning_by_an_analysis_measures_it_with_compensation(spiking: Tiny) -> None:
    result = psvit.prune(
        spiking.model,
        spiking.batches[0][0],
        {"params": 0.2},
        method="optimal",
        data=spiking.batches,
        n=4,
        recover="obs",
    )
    assert result.curves is not None
    assert result.curves.settings["recover"] == "obs"
    assert result.settings["saliency"] == "obs"
    plain = spiking.analyse(n=4)
    with pytest.raises(PlanError, match="--recover none"):
        psvit.prune(
            spiking.model,
            spiking.batches[0][0],
            {"params": 0.2},
            method="optimal",
            data=spiking.batches,
            curves=plain,
            recover="obs",
        )
