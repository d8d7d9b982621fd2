"""Write a model in the formats of other runtimes, and check each file against the model."""

from psvit.export.files import check_file as check_file
from psvit.export.files import json_path as json_path
from psvit.export.formats import NAMES as NAMES
from psvit.export.formats import WEIGHTS as WEIGHTS
from psvit.export.formats import check_choice as check_choice
from psvit.export.formats import format_of as format_of
from psvit.export.formats import is_export as is_export
from psvit.export.formats import open_export as open_export
from psvit.export.lower import trace as trace
from psvit.export.records import Comparison as Comparison
from psvit.export.records import Export as Export
from psvit.export.run import export as export
