"""Code that a user points at: `package.module:factory` or `path/to/file.py:factory`.

Models and data are named so alike. Whatever goes wrong in that code becomes one ModelError; who
points at something else turns it into an error of its own.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
import traceback
import types
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from psvit.compat import StandIns, import_file, is_user_file, legacy_imports
from psvit.errors import ModelError, PsvitError

SHOWN = 8


@contextmanager
def resolved(pointer: str) -> Iterator[tuple[Any, StandIns]]:
    """What `pointer` names, and what stands in for modules that are not installed.

    Call it inside the block: functions import too, and old imports are served there alone.
    Raises ModelError for a place that does not import or lacks the name.
    """
    place, _, name = pointer.rpartition(":")
    if not place or not name:
        raise ModelError(f"{pointer!r}: expected package.module:factory or path/to/file.py:factory")
    with ExitStack() as stack:
        folder = _folder_of(place)
        if folder is None:
            stack.enter_context(_here_importable())
        standins = stack.enter_context(legacy_imports(folder))
        yield _member(_module(place, pointer), name, place), standins


def portable(pointer: str) -> str:
    """`pointer` with a file's path made absolute, so that it means the same in any folder."""
    place, colon, name = pointer.rpartition(":")
    if not colon or not _is_file(place):
        return pointer
    return f"{Path(place).expanduser().resolve()}:{name}"


def said(error: BaseException) -> str:
    """Type, message and place of an error in a user's code, on one line."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} ({Path(error.filename or '?').name}:{error.lineno})"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    if any(line.startswith("Original Traceback") for line in lines):
        text = lines[-1]  # of a DataLoader's worker process, which sends its traceback as text
    frames = traceback.extract_tb(error.__traceback__)
    own = str(Path(__file__).parent)
    outside = [f for f in frames if own not in f.filename and "importlib" not in f.filename]
    user = [f for f in outside if is_user_file(f.filename)] or outside
    return f"{text} ({Path(user[-1].filename).name}:{user[-1].lineno})" if user else text


def _member(module: types.ModuleType, name: str, place: str) -> Any:
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is None:
        raise ModelError(f"{place} has no {name!r}{_candidates(module, name)}")
    return found


def _module(place: str, pointer: str) -> types.ModuleType:
    try:
        if _is_file(place):
            return _file(Path(place).expanduser())
        return importlib.import_module(place)
    except PsvitError:
        raise
    except ModuleNotFoundError as error:
        missing = error.name or str(error)
        if place == missing or place.startswith(f"{missing}."):
            raise ModelError(
                f"no module is called {missing!r}: install it, run from the folder that holds it, "
                "or give path/to/file.py:factory"
            ) from error
        raise  # legacy_imports says how to get what a user's file needs
    except (Exception, SystemExit) as error:
        # Importing runs anything: a script without a main guard even exits.
        raise ModelError(f"{pointer} does not import: {said(error)}") from error


_files: dict[tuple[Path, int, int], types.ModuleType] = {}
"""Files loaded so far, by path, time and size: code that registers operators runs only once."""


def _file(path: Path) -> types.ModuleType:
    try:
        stat = path.stat()
    except OSError as error:
        raise ModelError(f"{path} does not exist: expected path/to/file.py:factory") from error
    key = (path.resolve(), stat.st_mtime_ns, stat.st_size)
    if key not in _files:
        _files[key] = import_file(path)
    return _files[key]


@contextmanager
def _here_importable() -> Iterator[None]:
    """The working folder is on the import path, as with `python -m`."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _candidates(module: types.ModuleType, name: str) -> str:
    """What the module offers in place of `name`, likely ones first."""
    own = [
        key
        for key, value in vars(module).items()
        if not key.startswith("_")
        and getattr(value, "__module__", None) == module.__name__
        and (inspect.isfunction(value) or (inspect.isclass(value) and issubclass(value, nn.Module)))
    ]
    near = difflib.get_close_matches(name, own, n=3)
    ordered = [*near, *(key for key in own if key not in near)]
    if not ordered:
        return ": it defines no function and no nn.Module"
    more = f" and {len(ordered) - SHOWN} more" if len(ordered) > SHOWN else ""
    return f": it has {', '.join(ordered[:SHOWN])}{more}"


def _is_file(place: str) -> bool:
    return place.endswith(".py") or "/" in place or "\\" in place


def _folder_of(place: str) -> Path | None:
    return Path(place).expanduser().resolve().parent if _is_file(place) else None
