"""Training: one loop for reference models and for fine-tuning pruned ones."""

from psvit.train.batches import FromLoader as FromLoader
from psvit.train.batches import InMemory as InMemory
from psvit.train.batches import TrainingData as TrainingData
from psvit.train.batches import labelled_batch as labelled_batch
from psvit.train.batches import read_into_memory as read_into_memory
from psvit.train.config import Augment as Augment
from psvit.train.config import TrainConfig as TrainConfig
from psvit.train.devices import Devices as Devices
from psvit.train.devices import find_devices as find_devices
from psvit.train.loop import fit as fit
from psvit.train.neuron import fast_neurons as fast_neurons
from psvit.train.progress import ProgressLine as ProgressLine
from psvit.train.progress import Status as Status
from psvit.train.progress import status_text as status_text
from psvit.train.score import Score as Score
