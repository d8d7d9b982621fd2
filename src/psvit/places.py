"""Names of files and folders as others may read them: without the folders of this machine."""

from __future__ import annotations

from pathlib import PurePath


def without_place(text: str) -> str:
    """`folder:/home/me/cats` -> `folder:cats`, `/home/me/net.py:make` -> `net.py:make`."""
    return ":".join(PurePath(part).name or part for part in text.split(":"))
