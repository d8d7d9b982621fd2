"""``legacy_imports``: what a published repository imports, while one of its files is loaded."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from psvit.compat.activation_based import backend_accepted
from psvit.compat.catalogue import Catalogue
from psvit.compat.cuda import cuda_stays_here
from psvit.compat.finder import StandInFinder
from psvit.compat.namespace import own_namespace, search_path
from psvit.compat.packages import cannot_import
from psvit.compat.standins import StandIns
from psvit.errors import ModelError

_one_at_a_time = threading.RLock()


@contextmanager
def legacy_imports(folder: Path | None = None) -> Iterator[StandIns]:
    """Serve imports that are not installed to the user's files, while the context is open.

    Load the file and build the model inside: constructors import too. What was made goes on
    working afterwards; ``sys.modules``, ``sys.path`` and the installed libraries are as before.

    Args:
        folder: the folder of the user's file. Its modules, and those of the folders above it up
            to the repository's root, come first and are forgotten afterwards, so that two
            repositories may both have a ``model.py``. None: ``sys.path`` stays as it is.

    Yields:
        What stood in for what; ``lines()`` says it in one line each.

    Raises:
        ModelError: an import for which there is no stand-in: what is missing, and how to get it.
    """
    report = StandIns()
    finder = StandInFinder(Catalogue().lookup, report)
    with _one_at_a_time, ExitStack() as stack:
        stack.enter_context(backend_accepted(report))
        if folder is not None:
            stack.enter_context(own_namespace(search_path(folder)))
        stack.enter_context(_finding(finder))
        stack.enter_context(cuda_stays_here(report))
        try:
            yield report
        except ModuleNotFoundError as error:
            raise ModelError(cannot_import(error.name or str(error))) from error


@contextmanager
def _finding(finder: StandInFinder) -> Iterator[None]:
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in finder.served:
            module = sys.modules.pop(name, None)
            parent, _, child = name.rpartition(".")
            # the import system hangs a submodule on its parent, which may be a real package
            if parent in sys.modules and vars(sys.modules[parent]).get(child) is module:
                delattr(sys.modules[parent], child)
