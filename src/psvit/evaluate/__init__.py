"""How well a model does, and how fast: accuracy with its interval, latency with its spread."""

from psvit.evaluate.accuracy import Accuracy as Accuracy
from psvit.evaluate.accuracy import accuracy as accuracy
from psvit.evaluate.accuracy import right_images as right_images
from psvit.evaluate.chance import guessing as guessing
from psvit.evaluate.latency import Latency as Latency
from psvit.evaluate.latency import compare_latency as compare_latency
from psvit.evaluate.latency import latency as latency
from psvit.evaluate.paired import drop_limit as drop_limit
from psvit.evaluate.paired import pack as pack
from psvit.evaluate.paired import paired_drop as paired_drop
from psvit.evaluate.paired import unpack as unpack
from psvit.evaluate.parts import accuracy_in_parts as accuracy_in_parts
from psvit.evaluate.wilson import wilson as wilson
