"""``activation_based`` for files written for SpikingJelly 0.0.0.0.13 and 0.0.0.0.14.

SpikingJelly 2 chooses its kernels itself: its neurons refuse the argument ``backend``, and
``functional.set_backend`` is gone. Nor does it call ``neuronal_charge``, ``neuronal_fire`` and
``neuronal_reset``, which neurons of a user's own override. The overlays here accept and obey.
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
        "neuron": _Overlay(neuron, _imported(neuron) | _neurons(neuron, report)),
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


def _imported(module: ModuleType) -> dict[str, Any]:
    """Modules that ``neuron`` used to import, so that files got them from there."""
    names = [name for name in ("base", "surrogate") if not hasattr(module, name)]
    return {name: importlib.import_module(f"{_PACKAGE}.{name}") for name in names}


def _neurons(module: ModuleType, report: StandIns) -> dict[str, Any]:
    return {
        name: _accepting(kind, report)
        for name, kind in vars(module).items()
        if isinstance(kind, type)
        and issubclass(kind, module.BaseNode)
        and "backend" not in inspect.signature(kind).parameters
    }


def _accepting(kind: type, report: StandIns) -> type:
    """A subclass of ``kind`` that takes, and drops, ``backend``, and minds who overrides what."""

    def __init__(self: Any, *args: Any, backend: str | None = None, **kwargs: Any) -> None:
        if backend is not None:
            report.note(f"{_PACKAGE}.neuron", "backend= is accepted and ignored")
        _obey(type(self), accepting, report)
        kind.__init__(self, *args, **kwargs)  # type: ignore[misc]

    names = {"__init__": __init__, "__module__": kind.__module__, "__doc__": kind.__doc__}
    accepting = type(kind.__name__, (kind,), names)
    return accepting


def _obey(kind: type, library: type, report: StandIns) -> None:
    """Let ``kind``, which a user may have derived from ``library``, step as it means to."""
    from psvit.compat.neurons import overridden, step_as_before

    if overridden(kind, library):
        step_as_before(kind, library)
        report.note(f"{_PACKAGE}.{kind.__name__}", "steps as before SpikingJelly 2")


def _functions(module: ModuleType, report: StandIns) -> dict[str, Any]:
    if hasattr(module, "set_backend"):
        return {}

    def set_backend(net: nn.Module, backend: str, instance: Any = None) -> None:
        """Accepted and ignored: every backend computes the same."""
        report.note(f"{_PACKAGE}.functional", "set_backend() is accepted and ignored")

    return {"set_backend": set_backend}
