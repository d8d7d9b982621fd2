"""A user's file is imported as what its repository takes it for."""

from __future__ import annotations

from pathlib import Path

import pytest

from psvit.compat import import_file, legacy_imports
from psvit.errors import ModelError
from tests.compat.conftest import Write


def load(file: Path) -> object:
    with legacy_imports(file.parent):
        return import_file(file)


def test_relative_imports_inside_packages(repository: Write) -> None:
    root = repository(
        "resformer",
        {
            "models/__init__.py": "",
            "models/net.py": "from .parts.layers import WIDTH\nfrom models.parts import NAME",
            "models/parts/__init__.py": "NAME = 'parts'",
            "models/parts/layers.py": "from . import NAME\nWIDTH = 7",
        },
    )
    module = load(root / "models/net.py")
    assert (module.WIDTH, module.NAME) == (7, "parts")  # type: ignore[attr-defined]


def test_relative_imports_without_an_init_file(repository: Write) -> None:
    root = repository(
        "spikevit",
        {
            "README.md": "",
            "models/blocks.py": "DEPTH = 3",
            "models/vit/net.py": "from .spiking import WIDTH\nfrom ..blocks import DEPTH",
            "models/vit/spiking.py": "WIDTH = 7",
        },
    )
    module = load(root / "models/vit/net.py")
    assert (module.WIDTH, module.DEPTH) == (7, 3)  # type: ignore[attr-defined]


def test_siblings_of_the_package_are_found(repository: Write) -> None:
    root = repository(
        "sdt",
        {
            "requirements.txt": "",
            "model/__init__.py": "from .net import Net",
            "model/net.py": "from module import *\nNet = Block",
            "module/__init__.py": "from .block import Block",
            "module/block.py": "class Block: pass",
        },
    )
    assert load(root / "model/net.py").Net.__name__ == "Block"  # type: ignore[attr-defined]
    assert load(root / "model/__init__.py").Net.__name__ == "Block"  # type: ignore[attr-defined]


def test_modules_at_the_root_of_the_repository_are_found(repository: Write) -> None:
    root = repository(
        "tim",
        {
            "README.md": "",
            "utils/node.py": "TAU = 2",
            "models/net.py": "from utils.node import TAU",
        },
    )
    assert load(root / "models/net.py").TAU == 2  # type: ignore[attr-defined]


def test_a_repository_is_not_a_package_itself(repository: Write) -> None:
    root = repository(
        "clone",
        {
            ".git/HEAD": "",
            "__init__.py": "raise RuntimeError('the repository is no package')",
            "model/__init__.py": "",
            "model/net.py": "from module import X",
            "module/__init__.py": "X = 3",
        },
    )
    assert load(root / "model/net.py").X == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["sdt-v1.py", "torch.py", "types.py"])
def test_any_file_name_will_do(repository: Write, name: str) -> None:
    root = repository("names", {name: "import torch\nfrom torch import nn\nNet = nn.Linear"})
    import torch

    assert load(root / name).Net is torch.nn.Linear  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["nothing.py", "model.txt", "."])
def test_what_is_no_python_file_is_refused(repository: Write, name: str) -> None:
    root = repository("files", {"model.txt": ""})
    with pytest.raises(ModelError, match=r"expected a Python file \(\.py\) that exists"):
        load(root / name)


def test_a_syntax_error_is_said_with_its_line(repository: Write) -> None:
    root = repository("syntax", {"model.py": "x = 1\nprint 'old'\n"})
    with pytest.raises(ModelError, match=r"model\.py, line 2: .*; expected Python 3\.\d+ code"):
        load(root / "model.py")
