"""Where files lie: names as others may read them, and the folder for what can be made again."""

from __future__ import annotations

import os
from pathlib import Path, PurePath


def without_place(text: str) -> str:
    """`folder:/home/me/cats` -> `folder:cats`, `/home/me/net.py:make` -> `net.py:make`."""
    return ":".join(PurePath(part).name or part for part in text.split(":"))


def cache_folder() -> Path:
    """``$PSVIT_CACHE``, ``$XDG_CACHE_HOME/psvit`` or ``~/.cache/psvit``."""
    if own := os.environ.get("PSVIT_CACHE"):
        return Path(own)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "psvit"
