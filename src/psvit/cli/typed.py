"""The command as it was typed, for the record of how a result came about."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextvars import ContextVar

_arguments: ContextVar[Sequence[str]] = ContextVar("arguments", default=())


def remember_arguments(arguments: Sequence[str]) -> None:
    """Called once, by the program, before it does anything."""
    _arguments.set(tuple(arguments))


def typed_command() -> str:
    """`psvit prune ...`, quoted for a shell."""
    return shlex.join(["psvit", *_arguments.get()])
