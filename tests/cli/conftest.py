"""How tests of the command line run it and compare what it prints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from psvit.cli.app import main

GOLDEN = Path(__file__).parent.parent / "golden"

NET = '''
"""A user's model file."""

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=16, classes=10):
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.mix = nn.Conv2d(width, 2 * width, 1)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, x):
        print("a model that prints")
        x = torch.relu(self.mix(torch.relu(self.bn(self.stem(x)))))
        return self.head(x.mean((2, 3)))
'''


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code, stdout, stderr."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture(autouse=True)
def _plain_terminal(monkeypatch):
    """80 columns without colours, whatever the tests run in."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    for name in ("FORCE_COLOR", "PSVIT_DEBUG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(capsys) -> Run:
    """Call the program in this process."""

    def call(*arguments: object) -> Ended:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Ended(code, *capsys.readouterr())

    return call


@pytest.fixture
def net(tmp_path) -> str:
    """MODEL of a user's file, in an otherwise empty folder."""
    (tmp_path / "net.py").write_text(NET)
    return f"{tmp_path}/net.py:Net"


@pytest.fixture
def same_as_golden(request) -> Callable[[str, str], None]:
    """Compare a text with tests/golden/NAME.txt, or write it there with --update-golden."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / f"{name}.txt"
        text = "\n".join(line.rstrip() for line in text.splitlines()).strip("\n") + "\n"
        if request.config.getoption("--update-golden"):
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8"), (
            f"{path.name} differs; if the new text is right, run pytest --update-golden"
        )

    return compare
