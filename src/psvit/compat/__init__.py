"""Run published SViT repositories unmodified: old SpikingJelly, old timm, and what else they need.

with legacy_imports(path.parent) as standins:
    model = import_file(path).factory(**arguments)
print(*standins.lines(), sep="\\n")
"""

from psvit.compat.files import import_file as import_file
from psvit.compat.imports import legacy_imports as legacy_imports
from psvit.compat.packages import is_user_file as is_user_file
from psvit.compat.standins import StandInGap as StandInGap
from psvit.compat.standins import StandIns as StandIns

__all__ = ["StandInGap", "StandIns", "import_file", "is_user_file", "legacy_imports"]
