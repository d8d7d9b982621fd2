"""docs/your-own-model.md: its file and its commands do what the page says."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import psvit

PAGE = (Path(__file__).parents[2] / "docs" / "your-own-model.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.S)
FILE = next(text for kind, text in BLOCKS if kind == "python")
COMMANDS = [
    shlex.split(line)[1:] for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()
]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working folder of someone who follows the page."""
    pytest.importorskip("sklearn")
    (tmp_path / "mine.py").write_text(FILE)
    spec = importlib.util.spec_from_file_location("psvit_mine", tmp_path / "mine.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.manual_seed(0)
    net = module.Net()
    torch.nn.init.uniform_(net.norm.weight, 2, 4)  # alive: spikes from the first neuron on
    save_file(net.state_dict(), tmp_path / "mine.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_of_the_page(run, here):
    inspect, *prunes = COMMANDS
    ended = run(*inspect, "--json")
    assert ended.code == 0, ended.err
    groups = json.loads(ended.out)["groups"]
    locked = {g["locked"] for g in groups if g["locked"]}
    assert locked == {"the model's output"}
    assert {"residual stream", "qk", "v", "hidden"} == {
        g["role"] for g in groups if not g["locked"]
    }
    for prune in prunes:
        ended = run(*prune, "--limit", "50")
        assert ended.code == 0, ended.err
    before, between, after = (
        sum(p.numel() for p in model.parameters())
        for model in (_original(here), psvit.load("OUT"), psvit.load("OUT2"))
    )
    assert between < 0.8 * before
    assert after < 0.95 * between


def _original(here):
    spec = importlib.util.spec_from_file_location("psvit_mine", here / "mine.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Net()
