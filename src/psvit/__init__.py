"""Structural pruning of Spiking Vision Transformers: smaller models that compute the same.

import psvit
result = psvit.prune(model, images, save={"memory": 0.224})
psvit.save(result, "OUT")
small = psvit.load("OUT")
"""

from psvit.allocate import allocate as allocate
from psvit.artefacts import load as load
from psvit.artefacts import push_to_hub as push_to_hub
from psvit.artefacts import save as save
from psvit.capture import capture as capture
from psvit.compare import compare as compare
from psvit.errors import BudgetError as BudgetError
from psvit.errors import CaptureError as CaptureError
from psvit.errors import CheckpointError as CheckpointError
from psvit.errors import DataError as DataError
from psvit.errors import InputError as InputError
from psvit.errors import MissingExtra as MissingExtra
from psvit.errors import ModelError as ModelError
from psvit.errors import OptionError as OptionError
from psvit.errors import OutputError as OutputError
from psvit.errors import PlanError as PlanError
from psvit.errors import PsvitError as PsvitError
from psvit.errors import TrainingError as TrainingError
from psvit.export import Export as Export
from psvit.export import export as export
from psvit.finetune import Tuning as Tuning
from psvit.finetune import finetune as finetune
from psvit.groups import find_groups as find_groups
from psvit.inference import faster as faster
from psvit.inference import fold_batchnorm as fold_batchnorm
from psvit.prune import prune as prune
from psvit.records import Figures as Figures
from psvit.records import Graph as Graph
from psvit.records import Group as Group
from psvit.records import Groups as Groups
from psvit.records import Plan as Plan
from psvit.records import Result as Result
from psvit.records import Source as Source
from psvit.rewrite import rewrite as rewrite
from psvit.saliency import saliency as saliency
from psvit.sensitivity import sensitivity as sensitivity

__version__ = "0.1.0"
