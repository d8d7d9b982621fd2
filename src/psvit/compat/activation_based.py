"""``backend=`` for files written for SpikingJelly 0.0.0.0.13 and 0.0.0.0.14.

SpikingJelly 2 chooses its kernels itself: its neurons refuse the argument ``backend``, and
``functional.set_backend`` is gone. The overlays here accept both and change nothing else.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from torch import nn

from psvit.compat.standins import StandIns

_PACKAGE = "spikingjelly.activation_based"


class _Overlay(ModuleType):
    """A module with some names replaced; everything else is the original's."""

    def __init__(self, original: ModuleType, replaced: dict[str, Any]) -> None:
        super().__init__(original.__name__, original.__doc__)
        self.__dict__.update({k: v for k, v in vars(original).items() if k != "__getattr__"})
        self.__dict__.update(replaced)
        self._original = original

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_original"], name)


@contextmanager
def backend_accepted(report: StandIns) -> Iterator[None]:
    """While open, ``spikingjelly.activation_based`` hands out neurons that take ``backend``."""
    try:
        present = find_spec("spikingjelly.activation_based") is not None
    except (ImportError, ValueError):
        present = False
    if not present:
        yield
        return
    package = importlib.import_module(_PACKAGE)
    neuron = importlib.import_module(f"{_PACKAGE}.neuron")
    functional = importlib.import_module(f"{_PACKAGE}.functional")
    overlays = {
        "neuron": _Overlay(neuron, _neurons(neuron, report)),
        "functional": _Overlay(functional, _functions(functional, report)),
    }
    originals = {"neuron": neuron, "functional": functional}
    _install(package, overlays)
    try:
        yield
    finally:
        _install(package, originals)


def _install(package: ModuleType, modules: dict[str, Any]) -> None:
    for name, module in modules.items():
        sys.modules[f"{_PACKAGE}.{name}"] = module
        setattr(package, name, module)


def _neurons(module: ModuleType, report: StandIns) -> dict[str, Any]:
    return {
        name: _accepting(kind, report)
        for name, kind in vars(module).items()
        if isinstance(kind, type)
        and issubclass(kind, module.BaseNode)
        and "backend" not in inspect.signature(kind).parameters
    }


def _accepting(kind: type, report: StandIns) -> type:
    """A subclass of ``kind`` whose constructor takes, and drops, ``backend``."""

    def __init__(self: Any, *args: Any, backend: str | None = None, **kwargs: Any) -> None:
        if backend is not None:
            report.note(f"{_PACKAGE}.neuron", "backend= is accepted and ignored")
        kind.__init__(self, *args, **kwargs)  # type: ignore[misc]

    names = {"__init__": __init__, "__module__": kind.__module__, "__doc__": kind.__doc__}
    return type(kind.__name__, (kind,), names)


def _functions(module: ModuleType, report: StandIns) -> dict[str, Any]:
    if hasattr(module, "set_backend"):
        return {}

    def set_backend(net: nn.Module, backend: str, instance: Any = None) -> None:
        """Accepted and ignored: every backend computes the same."""
        report.note(f"{_PACKAGE}.functional", "set_backend() is accepted and ignored")

    return {"set_backend": set_backend}
