"""Folders of a user's, written for a test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

Write = Callable[..., Path]


@pytest.fixture
def repository(tmp_path: Path) -> Write:
    """``repository(name, {"model.py": text, ...})``: a folder with these files in it."""

    def write(name: str, files: dict[str, str]) -> Path:
        root = tmp_path / name
        for path, text in files.items():
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(dedent(text))
        return root

    return write
