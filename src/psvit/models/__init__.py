"""Models that have a name, and the trained ones that come with the package."""

from psvit.models.registry import DEFAULT_MODEL as DEFAULT_MODEL
from psvit.models.registry import MODELS as MODELS
from psvit.models.registry import ModelEntry as ModelEntry
from psvit.models.registry import build as build
from psvit.models.registry import find_entry as find_entry
