"""Serve stand-ins to the imports of a user's files, and to nobody else's.

An installed library that probes for an optional package (torch looks for torchvision, say) must
go on finding it absent: the finder therefore asks who imports.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import FrameType, ModuleType

from psvit.compat.packages import is_user_file
from psvit.compat.standins import StandIns

Build = Callable[[], ModuleType]
Lookup = Callable[[str], tuple[Build, str] | None]
"""Module name -> how to make its stand-in and why, or None where there is none."""


class StandInFinder(MetaPathFinder):
    """Last in ``sys.meta_path``: sees only what no other finder found."""

    def __init__(self, lookup: Lookup, report: StandIns) -> None:
        self._lookup = lookup
        self._report = report
        self.served: list[str] = []

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The stand-in's spec, if there is one and a user's file asks for it."""
        found = self._lookup(fullname)
        if found is None or not asked_by_user(sys._getframe(1)):
            return None
        build, why = found
        self.served.append(fullname)
        self._report.note(fullname, why)
        return spec_from_loader(fullname, _StandInLoader(build), is_package=True)


class _StandInLoader(Loader):
    def __init__(self, build: Build) -> None:
        self._build = build

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self._build()

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run: the module came complete."""


def asked_by_user(frame: FrameType | None) -> bool:
    """Whether the import under way in ``frame`` was written in a file of the user's.

    Or in SpikingJelly, which imports torchvision outright where a user takes a network from it.
    """
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if not name.startswith(("importlib", "_frozen_importlib")):
            ours = name.partition(".")[0] == "spikingjelly"
            return ours or is_user_file(frame.f_code.co_filename)
        frame = frame.f_back
    return False
