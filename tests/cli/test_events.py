"""Frames of events through the commands."""

from __future__ import annotations

import json

import pytest
import torch

from psvit.models.load import load_model
from tests.data.simulated import write_events

NET = """
import torch
from torch import nn


class Net(nn.Module):
    # Frames [B, T, 2, H, W]: leaky sums over time.
    def __init__(self, width=8, classes=10):
        super().__init__()
        self.stem = nn.Conv2d(2, width, 3, stride=4)
        self.norm = nn.BatchNorm2d(width)
        self.deep = nn.Conv2d(width, 12, 3, stride=2)
        self.head = nn.Linear(12, classes)

    def forward(self, frames):
        total = 0
        for step in frames.unbind(1):
            total = 0.5 * total + torch.relu(self.norm(self.stem(step)))
        return self.head(torch.relu(self.deep(total)).mean((2, 3)))


class TimeFirst(Net):
    def forward(self, frames):
        return super().forward(frames.transpose(0, 1))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """events:PATH with train/ and test/, 60 and 30 recordings of 4 frames."""
    root = tmp_path_factory.mktemp("events")
    write_events(root / "train", 60)
    write_events(root / "test", 30, "eval")
    return root


@pytest.fixture
def net(tmp_path):
    (tmp_path / "net.py").write_text(NET)
    return f"{tmp_path}/net.py:Net"


def test_prune_evaluate_finetune_and_sensitivity_take_events(run, net, place, tmp_path):
    torch.save(load_model(net).model.state_dict(), tmp_path / "net.pth")
    given = ["--checkpoint", tmp_path / "net.pth"]
    data = ["--data", f"events:{place}", "--batch-size", 16]
    out = tmp_path / "out"
    ended = run("prune", net, *given, *data, "--save", "memory=30%", "--recover", "obs", "-o", out)
    assert ended.code == 0, ended.err
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["after"]["n"] == 30
    assert metrics["after"]["memory_bytes"] <= 0.7 * metrics["before"]["memory_bytes"]
    ended = run("evaluate", out, "--json")
    assert json.loads(ended.out)["n"] == 30
    ended = run("finetune", out, *data, "--epochs", 2, "-o", tmp_path / "tuned")
    assert ended.code == 0, ended.err
    ended = run("sensitivity", net, *given, *data, "--n", 32, "-o", tmp_path / "s.json")
    assert ended.code == 0, ended.err
    assert run("inspect", net, "--input-shape", "4,2,24,24").code == 0


def test_a_model_that_takes_time_first_is_found_out_and_can_be_given(run, net, place, tmp_path):
    first = net.replace(":Net", ":TimeFirst")
    arguments = ["--data", f"events:{place}", "--save", "memory=30%", "-o", tmp_path / "out"]
    ended = run("prune", first, *arguments)
    assert ended.code == 2
    assert "psvit gives [B, T, C, H, W]; if the model takes T first" in ended.err
    adapter = "psvit.models.time_first:batch_first"
    ended = run("prune", adapter, "--model-arg", f"of={first}", *arguments)
    assert ended.code == 0, ended.err
    assert run("evaluate", tmp_path / "out").code == 0


def test_the_adapter_changes_the_order_and_nothing_else(net):
    first = load_model(
        "psvit.models.time_first:batch_first", {"of": net.replace("Net", "TimeFirst")}
    )
    plain = load_model(net).model
    assert list(first.model.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(first.model.state_dict())
    frames = torch.rand(3, 4, 2, 24, 24)
    assert torch.equal(first.model.eval()(frames), plain.eval()(frames))
