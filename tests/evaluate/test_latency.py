"""What is timed, how often, and in which order; not how long it takes."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import nn

from psvit.errors import ModelError
from psvit.evaluate import compare_latency, latency
from psvit.records import InputSpec

SPEC = InputSpec((2, 3, 4, 4))


class Probe(nn.Module):
    def __init__(self, name: str, log: list) -> None:
        super().__init__()
        self.name, self.log = name, log
        self.layer = nn.Linear(48, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.log.append((self.name, tuple(x.shape), self.training, torch.is_grad_enabled()))
        return self.layer(x.flatten(1))


def test_two_models_take_turns_at_the_given_batch():
    log: list = []
    models = [Probe("a", log), Probe("b", log)]
    got = compare_latency(models, SPEC, batch=5, runs=4, warm_up=1)
    assert [entry[0] for entry in log] == ["a", "b"] * 6  # check, warm-up, four runs
    assert {entry[1:] for entry in log} == {((5, 3, 4, 4), False, False)}
    assert all(model.training for model in models)
    for one in got:
        assert (one.batch, one.runs, one.device) == (5, 4, "cpu")
        assert one.threads == torch.get_num_threads()
        assert 0 < one.fastest_ms <= one.median_ms <= one.slowest_ms


def test_median_is_of_the_timed_runs_only(monkeypatch):
    times = iter([100.0, 100.0, 1.0, 3.0, 50.0])  # two of warm-up, then three
    module = importlib.import_module("psvit.evaluate.latency")
    monkeypatch.setattr(module, "_time_ms", lambda *args: next(times))
    got = latency(Probe("a", []), SPEC, runs=3, warm_up=2)
    assert (got.fastest_ms, got.median_ms, got.slowest_ms) == (1.0, 3.0, 50.0)


def test_input_that_does_not_fit_is_said_once():
    model = Probe("a", [])
    with pytest.raises(ModelError, match=r"shape \[1, 3, 5, 5\], float32"):
        latency(model, InputSpec((1, 3, 5, 5)))
    assert model.training
