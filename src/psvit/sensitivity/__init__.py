"""What pruning each group of channels alone does to a model, and what it saves.

sensitivity(graph, groups, scores, batches) -> Curves      the analysis; goes on if killed
write_curves, read_curves, check_curves, check_accuracy    its files
by_block(curves) -> tuple[Block, ...]                      a summary
"""

from psvit.sensitivity.blocks import Block as Block
from psvit.sensitivity.blocks import by_block as by_block
from psvit.sensitivity.files import check_accuracy as check_accuracy
from psvit.sensitivity.files import check_curves as check_curves
from psvit.sensitivity.files import check_data as check_data
from psvit.sensitivity.files import curves_from_json as curves_from_json
from psvit.sensitivity.files import curves_to_csv as curves_to_csv
from psvit.sensitivity.files import curves_to_json as curves_to_json
from psvit.sensitivity.files import read_curves as read_curves
from psvit.sensitivity.files import write_curves as write_curves
from psvit.sensitivity.identity import HASHES as HASHES
from psvit.sensitivity.identity import batches_hash as batches_hash
from psvit.sensitivity.identity import hash_of as hash_of
from psvit.sensitivity.identity import tensors_hash as tensors_hash
from psvit.sensitivity.identity import weights_hash as weights_hash
from psvit.sensitivity.race import Race as Race
from psvit.sensitivity.sweep import sensitivity as sensitivity
from psvit.sensitivity.trials import GRID as GRID
from psvit.sensitivity.trials import check_grid as check_grid
