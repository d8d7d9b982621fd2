"""Import one file of a user's, as the module that its repository takes it for."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from psvit.compat.namespace import package_root, search_path
from psvit.errors import ModelError


def import_file(path: Path) -> ModuleType:
    """The module in ``path``; call it inside ``legacy_imports(path.parent)``.

    A file in a package is imported under its dotted name, so that relative imports work; so is
    a file that imports relatively without an ``__init__.py`` beside it, from the repository's root.

    Raises:
        ModelError: no such file, not a Python file, or its code does not compile.
    """
    path = path.resolve()
    if path.suffix != ".py" or not path.is_file():
        raise ModelError(f"{path}: expected a Python file (.py) that exists")
    inside = _inside(path)
    try:
        if len(inside) == 1:
            return _execute(path)
        return importlib.import_module(".".join(inside).removesuffix(".__init__"))
    except SyntaxError as error:
        raise ModelError(
            f"{error.filename}, line {error.lineno}: {error.msg}; expected Python "
            f"{sys.version_info.major}.{sys.version_info.minor} code"
        ) from error


def _inside(path: Path) -> tuple[str, ...]:
    """The parts of the dotted name that the repository's own scripts give the module."""
    root = package_root(path.parent)
    if root == path.parent:
        depth = _relative_depth(path)
        above = [f for f in search_path(root) if len(path.relative_to(f).parts) > depth]
        for folder in reversed(above if depth else ()):
            if all(part.isidentifier() for part in path.relative_to(folder).with_suffix("").parts):
                root = folder
                break
    return path.relative_to(root).with_suffix("").parts


def _relative_depth(path: Path) -> int:
    """The most dots that a relative import of the file begins with; 0 if it has none."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # running the file says so, with its line
        return 0
    return max((n.level for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)), default=0)


def _execute(path: Path) -> ModuleType:
    """Run the file itself, under its own name where that is free."""
    name = path.stem if path.stem.isidentifier() else "model"
    while name in sys.modules or name in sys.stdlib_module_names:
        name += "_"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ModelError(f"{path}: Python cannot load it")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module
