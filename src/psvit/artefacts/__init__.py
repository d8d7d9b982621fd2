"""What psvit reads and writes: other people's checkpoints, and its own folders.

A folder that psvit wrote holds

    model.safetensors   the weights: keys of the original, smaller shapes
    plan.json           which indices stay, and how to build the original
    metrics.json        figures before and after, the settings that gave them, what was locked
    README.md           the figures and how to use it: the card of a repository of the Hub
    config.json         what the model is, for the Hub
    report.html         all of it as a page, where a command wrote the folder
    finetune.jsonl      the log of a fine-tuning, where there was one
    bench.json          how fast it is, where `psvit bench` measured it
    sensitivity.json    the analysis that guided the plan, where one did (.csv: for people)

and nothing in it is ever unpickled.
"""

from psvit.artefacts.checkpoint import load_weights as load_weights
from psvit.artefacts.checkpoint import read_weights as read_weights
from psvit.artefacts.compose import compose as compose
from psvit.artefacts.folder import check_target as check_target
from psvit.artefacts.folder import is_artefact as is_artefact
from psvit.artefacts.hub import is_on_hub as is_on_hub
from psvit.artefacts.hub import local_folder as local_folder
from psvit.artefacts.hub import push_to_hub as push_to_hub
from psvit.artefacts.lineage import plan_of as plan_of
from psvit.artefacts.lineage import remember as remember
from psvit.artefacts.load import load as load
from psvit.artefacts.load import load_artefact as load_artefact
from psvit.artefacts.load import read_plan as read_plan
from psvit.artefacts.save import Artefact as Artefact
from psvit.artefacts.save import save as save
from psvit.artefacts.save import save_artefact as save_artefact
