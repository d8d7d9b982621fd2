"""A published repository's file on the command line, as its authors wrote it."""

from __future__ import annotations

import json

import pytest

import psvit

PUBLISHED = """
import urllib.request

import torch
from spikingjelly.clock_driven.neuron import MultiStepLIFNode
from timm.models.registry import register_model
from timm.models.vision_transformer import _cfg
from torch import nn


class Net(nn.Module):
    def __init__(self, dim=8, num_classes=10, T=2, in_channels=1, drop_path_rate=0.0, events=False):
        super().__init__()
        self.T, self.events = T, events
        self.conv, self.bn = nn.Conv2d(in_channels, dim, 3, padding=1), nn.BatchNorm2d(dim)
        self.lif = MultiStepLIFNode(tau=2.0, detach_reset=True, backend="cupy")
        self.mix, self.head = nn.Conv2d(dim, dim, 1), nn.Linear(dim, num_classes)

    def forward(self, x, hook=None):
        x = x.transpose(0, 1) if self.events else x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1)
        T, B, C, H, W = x.shape
        x = self.lif(self.bn(self.conv(x.flatten(0, 1))).reshape(T, B, -1, H, W))
        x = self.mix(x.flatten(0, 1)).reshape(T, B, -1, H, W).flatten(3).mean(3)
        return self.head(x).mean(0), hook


@register_model
def net(pretrained=False, **kwargs):
    if pretrained:
        urllib.request.urlopen("http://127.0.0.1:9/net.pth.tar")
    model = Net(**kwargs)
    model.default_cfg = _cfg()
    return model


class Config(nn.Module):
    def __init__(self, config):
        super().__init__()
"""


@pytest.fixture
def model(tmp_path) -> str:
    """A published file: old SpikingJelly and timm, logits in a tuple, timm's keyword arguments."""
    (tmp_path / "model.py").write_text(PUBLISHED)
    return f"{tmp_path}/model.py"


def test_logits_in_a_tuple_are_measured_and_the_model_is_written(run, model, tmp_path):
    out = tmp_path / "OUT"
    ended = run(
        *("prune", f"{model}:net", "--model-arg", "drop_path_rate=0.1", "--data", "digits"),
        *("--save", "params=20%", "--recover", "bn", "--limit", "20", "-o", out, "--json"),
    )
    assert ended.code == 0, ended.err
    after = json.loads((out / "metrics.json").read_text())["after"]
    assert after["n"] == 20
    assert psvit.load(out).conv.out_channels < 8


@pytest.mark.parametrize(
    ("arguments", "shape"),
    [(["T=1"], "1,16,16"), (["T=4"], "1,16,16"), (["events=True"], "4,1,16,16")],
)
def test_steps_passed_in_and_frames_of_events(run, model, arguments, shape):
    given = [part for argument in arguments for part in ("--model-arg", argument)]
    ended = run("inspect", f"{model}:net", *given, "--input-shape", shape, "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert [group["locked"] for group in found["groups"]].count(None) == 2
    assert "timm is not installed, psvit stands in" in ended.err or "timm" not in ended.err


@pytest.mark.parametrize(
    ("factory", "arguments", "said"),
    [
        ("net", ["pretrained=True"], ": it downloads; switch that off, such as with --model-arg"),
        ("net", ["depth=3"], "unexpected keyword argument 'depth' (model.py:31)"),
        ("Config", [], "needs an argument: config; give --model-arg config=VALUE"),
        ("nett", [], "model.py has no 'nett': it has net, Net, Config"),
    ],
)
def test_what_cannot_be_built_is_one_line(run, model, factory, arguments, said):
    given = [part for argument in arguments for part in ("--model-arg", argument)]
    ended = run("inspect", f"{model}:{factory}", *given, "--input-shape", "1,16,16")
    assert ended.code == 2
    assert said in [line for line in ended.err.splitlines() if line.startswith("psvit: error")][-1]
    assert "Traceback" not in ended.err
