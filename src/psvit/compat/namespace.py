"""A namespace of its own for each user's folder.

Repositories call their modules ``model``, ``module``, ``utils``: two of them in one process
would get each other's. While a folder is open its modules come first, and modules of the same
name from elsewhere are set aside; afterwards ``sys.path`` and those names are as before.

The user's modules live on as ``psvit_user_<n>.<name>``, and say so themselves: torch.compile,
pickle and inspect look a function's module up by name long after it was imported.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from types import ModuleType

from psvit.compat.packages import is_user_file

_PROJECT = (".git", "setup.py", "pyproject.toml", "requirements.txt")
_MARKS = (*_PROJECT, "README.md", "readme.md")
_count = count(1)
_ALWAYS_SHARED = frozenset({"psvit", "torch", "numpy"})


def package_root(folder: Path) -> Path:
    """The folder from which a file in ``folder`` is imported: above the packages around it.

    A repository's own folder is never a package, even with an ``__init__.py`` in it.
    """
    folder = folder.resolve()
    while (folder / "__init__.py").exists() and folder.name.isidentifier():
        if any((folder / mark).exists() for mark in _PROJECT):
            break
        folder = folder.parent
    return folder


def search_path(folder: Path) -> tuple[Path, ...]:
    """Where a script in ``folder`` would find its modules, nearest first.

    The folder, without the packages that it is part of, and the folders above it up to the
    repository's root, from where its scripts are usually started.
    """
    root = package_root(folder)
    above = list(root.parents)[:3]
    for depth, parent in enumerate((root, *above)):
        if any((parent / mark).exists() for mark in _MARKS):
            return (root, *above[:depth])
    return (root,)


@contextmanager
def own_namespace(folders: tuple[Path, ...]) -> Iterator[None]:
    """Import from ``folders`` first; forget on leaving what was imported from them."""
    path, bytecode = list(sys.path), sys.dont_write_bytecode
    aside = {name: m for name, m in sys.modules.items() if _shadowed(name, folders)}
    for name in aside:
        del sys.modules[name]
    before = set(sys.modules)
    sys.path[:0] = [str(f) for f in folders]
    sys.dont_write_bytecode = True  # a user's clone stays as it is
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = path
        sys.dont_write_bytecode = bytecode
        # the list first: a namespace package looks up its parent while it is asked for its path
        new = {name: sys.modules[name] for name in set(sys.modules) - before}
        mine = {n: module for n, module in new.items() if _comes_from(module, folders)}
        for name in mine:
            del sys.modules[name]
        _move(mine)
        sys.modules.update(aside)


def _move(modules: dict[str, ModuleType]) -> None:
    """Register ``modules`` below a package of their own, and tell their contents."""
    if not modules:
        return
    prefix = f"psvit_user_{next(_count)}"
    package = ModuleType(prefix, "One user's modules, loaded by psvit.")
    package.__path__ = []
    sys.modules[prefix] = package
    for name, module in modules.items():
        for thing in vars(module).values():
            if getattr(thing, "__module__", None) == name:
                with suppress(AttributeError, TypeError):  # some objects fix theirs
                    thing.__module__ = f"{prefix}.{name}"
        is_package = hasattr(module, "__path__")
        module.__name__ = f"{prefix}.{name}"
        module.__package__ = module.__name__ if is_package else module.__name__.rpartition(".")[0]
        module.__spec__ = None
        sys.modules[module.__name__] = module


def _shadowed(name: str, folders: tuple[Path, ...]) -> bool:
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names or top in _ALWAYS_SHARED or top == "__main__":
        return False
    return any((f / f"{top}.py").is_file() or _holds_python(f / top) for f in folders)


def _holds_python(folder: Path) -> bool:
    return folder.is_dir() and any(any(folder.glob(p)) for p in ("*.py", "*/*.py"))


def _comes_from(module: ModuleType, folders: tuple[Path, ...]) -> bool:
    file = getattr(module, "__file__", None)
    places = [file] if file else list(getattr(module, "__path__", ()))
    inside = [p for p in places if any(f in Path(p).resolve().parents for f in folders)]
    return any(is_user_file(p) for p in inside)
