"""What is installed and what is the user's, and what is said of a module that is neither."""

from __future__ import annotations

import sysconfig
from importlib.machinery import PathFinder
from pathlib import Path

_OURS = str(Path(__file__).resolve().parent.parent)
_INSTALLED = tuple(
    {
        str(Path(path).resolve())
        for name, path in sysconfig.get_paths().items()
        if name in ("stdlib", "platstdlib", "purelib", "platlib")
    }
)

INSTALL = {
    "PIL": "pillow",
    "cv2": "opencv-python",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "spikingjelly": "'psvit[spikingjelly]'",
    "yaml": "pyyaml",
}
"""Import name -> what pip calls it, where the two differ."""


def absent(module: str) -> str:
    """What is not there: a package, or a part that another release of it has."""
    top, _, part = module.partition(".")
    if part and _places(top):
        return f"the installed {top} has no {part}"
    return f"{top} is not installed"


def how_to_get(module: str) -> str:
    """The command that makes ``module`` importable, or the release that has it."""
    top, _, part = module.partition(".")
    if part and _places(top):
        return f"install the release of {top} that the code was written for"
    return f"pip install {INSTALL.get(top, top)}"


def cannot_import(module: str) -> str:
    """One line for a user whose code imports what is not there."""
    top, _, part = module.partition(".")
    places = _places(top)
    if part and places and all(is_user_file(place) for place in places):
        return f"the code imports {module}, but its own {top} has no {part}: is the clone complete?"
    if part and places:
        return f"the code imports {module}, but {absent(module)}: {how_to_get(module)}"
    return (
        f"the code imports {module}, which is neither installed nor known to psvit: "
        f"{how_to_get(module)}"
    )


def _places(top: str) -> list[str]:
    """Where the package or module lies; not asked of ``sys.modules``, where stand-ins are."""
    spec = PathFinder.find_spec(top)
    if spec is None:
        return []
    return list(spec.submodule_search_locations or ()) or [spec.origin or ""]


def is_user_file(filename: str) -> bool:
    """False for installed packages, the standard library and psvit itself."""
    if filename.startswith("<"):  # text given to exec(), a notebook's cell
        return not filename.startswith("<frozen ")
    full = str(Path(filename).resolve())
    if full.startswith(_OURS + "/"):
        return False
    return not any(full.startswith(installed + "/") for installed in _INSTALLED)
