"""Where files lie: names as others may read them, and the folder for what can be made again."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath


def without_place(text: str) -> str:
    """`folder:/home/me/cats` -> `folder:cats`, `/home/me/net.py:make` -> `net.py:make`."""
    return ":".join(PurePath(part).name or part for part in text.split(":"))


def command_elsewhere(program: str, words: Sequence[str], outputs: Mapping[str, str]) -> str:
    """A command line as others would type it: without the folders of this machine.

    ``outputs``: options such as ``--out``, and what to write for the places that they name.
    """
    kept = []
    for before, word in zip(["", *words], words, strict=False):
        option, equals, value = word.partition("=") if word[:1] == "-" else (before, "", word)
        value = outputs.get(option, without_place(value)) if value else value
        kept.append(f"{option}{equals}{value}" if word[:1] == "-" else value)
    return f"{program} {shlex.join(kept)}"


def cache_folder() -> Path:
    """``$PSVIT_CACHE``, ``$XDG_CACHE_HOME/psvit`` or ``~/.cache/psvit``."""
    if own := os.environ.get("PSVIT_CACHE"):
        return Path(own)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "psvit"
