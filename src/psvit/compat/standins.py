"""What a stand-in is: a module served in place of one that is not installed.

Two kinds. A *real* stand-in computes what the original computes and has the names that models
use; any other name is a gap, and asking for it raises ModelError. An *empty* stand-in exists so
that ``import`` works where a model file pulls in training or plotting code that it does not
compute with: it has every name, and using one raises ModelError.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, NoReturn

from psvit.compat.packages import absent, how_to_get
from psvit.errors import ModelError


class StandInGap(ModelError, ImportError):
    """A name that a stand-in does not have.

    Also an ImportError, so that ``try: from x import y`` with a fallback takes the fallback.
    """


@dataclass
class StandIns:
    """What stood in for what, filled while a user's file is loaded."""

    used: dict[str, str] = field(default_factory=dict)

    def note(self, name: str, why: str) -> None:
        """Remember that ``name`` was served, and why; the first reason stays."""
        self.used.setdefault(name, why)

    def lines(self) -> tuple[str, ...]:
        """One line for each reason, with what it holds for: for people."""
        by_reason: dict[str, list[str]] = {}
        for name, why in sorted(self.used.items()):
            by_reason.setdefault(why, []).append(name)
        for names in by_reason.values():  # a package speaks for itself only where alone
            parents = {n for n in names if any(m.startswith(n + ".") for m in names)}
            names[:] = [n for n in names if n not in parents]
        return tuple(f"{', '.join(names)}: {why}" for why, names in by_reason.items())


class NoVersion(ModelError, AttributeError):
    """The version of what is not there; ``getattr`` with a default takes the default."""


class RealModule(ModuleType):
    """A stand-in that computes; names that it lacks are gaps."""

    def __init__(
        self, name: str, contents: Mapping[str, Any], children: Collection[str] = ()
    ) -> None:
        super().__init__(name, f"psvit's stand-in for {name}")
        self.__path__: list[str] = []
        self.__dict__.update(contents)
        self._children = frozenset(children)

    def __getattr__(self, name: str) -> Any:
        # an AttributeError makes ``from package import child`` go and import the child
        if _is_protocol(name) or name in self.__dict__["_children"]:
            raise AttributeError(name)
        known = sorted({n for n in self.__dict__ if not n.startswith("_")} | self._children)
        top = self.__name__.partition(".")[0]
        raise StandInGap(
            f"{self.__name__}.{name} is missing: psvit stands in for {self.__name__} with "
            f"{', '.join(known) or 'no names'} only; install the {top} release that the model "
            "was written for"
        )


class EmptyModule(ModuleType):
    """A stand-in that has every name; ``inert`` ones may be called, others raise when used."""

    def __init__(
        self,
        name: str,
        contents: Mapping[str, Any] | None = None,
        children: Collection[str] = (),
        inert: bool = False,
    ) -> None:
        super().__init__(name, f"psvit's empty stand-in for {name}")
        self.__path__: list[str] = []
        self.__dict__.update(contents or {})
        self.__all__ = sorted(contents or {})
        self._children = frozenset(children)
        self._inert = inert

    def __getattr__(self, name: str) -> Any:
        dotted = f"{self.__name__}.{name}"
        if name == "__version__":
            raise NoVersion(
                f"the code asks for {dotted} and {absent(self.__name__)}: "
                f"{how_to_get(self.__name__)}"
            )
        if _is_protocol(name) or name in self.__dict__["_children"]:
            raise AttributeError(name)
        value = Inert(dotted) if self._inert else empty(dotted)
        self.__dict__[name] = value
        return value


class _Empty(type):
    """The type of an empty name: it may be passed around and derived from, not used."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        # ``to_tensor = transforms.Compose([...])`` in a file or a class: part of importing it
        if not sys._getframe(1).f_code.co_flags & inspect.CO_OPTIMIZED:
            return empty(f"{cls._stands_for}()")
        _refuse(cls)

    def __getattr__(cls, name: str) -> Any:
        if _is_protocol(name):
            raise AttributeError(name)
        return empty(f"{cls._stands_for}.{name}")

    def __repr__(cls) -> str:
        return f"<psvit's empty stand-in for {cls._stands_for}>"


def empty(dotted: str) -> type:
    """A class that stands for ``dotted``: a class, a function or a constant."""
    return _Empty(dotted.rpartition(".")[2], (), {"_stands_for": dotted})


def _refuse(cls: Any) -> NoReturn:
    dotted = cls._stands_for
    top = dotted.partition(".")[0]
    raise ModelError(
        f"{dotted} is used by the model and {absent(dotted)}: {how_to_get(dotted)} "
        f"(psvit stands in for {top} only so that files which import it load)"
    )


class Inert:
    """A plotting name: calling it, or anything of it, does nothing."""

    def __init__(self, dotted: str) -> None:
        self._dotted = dotted

    def __call__(self, *args: Any, **kwargs: Any) -> Inert:
        return self

    def __getattr__(self, name: str) -> Inert:
        if _is_protocol(name):
            raise AttributeError(name)
        return Inert(f"{self._dotted}.{name}")

    def __repr__(self) -> str:
        return f"<psvit's inert stand-in for {self._dotted}>"


def _is_protocol(name: str) -> bool:
    """Names that Python itself probes for, on any object."""
    return name.startswith("__") and name.endswith("__")
