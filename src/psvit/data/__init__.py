"""Data sets that psvit selects on, calibrates with and evaluates on: `open_data` opens one."""

from psvit.data.info import DataInfo as DataInfo
from psvit.data.info import Split as Split
from psvit.data.info import check_classes as check_classes
from psvit.data.info import check_shape as check_shape
from psvit.data.info import draw_record as draw_record
from psvit.data.loader import Loader as Loader
from psvit.data.open import Batches as Batches
from psvit.data.open import has_columns as has_columns
from psvit.data.open import is_prepared as is_prepared
from psvit.data.open import open_data as open_data
from psvit.data.order import calibration_subset as calibration_subset
from psvit.data.recipe import Recipe as Recipe
from psvit.data.recipe import parse_channels as parse_channels
from psvit.data.recipes import RECIPES as RECIPES
from psvit.data.recipes import make_recipe as make_recipe
