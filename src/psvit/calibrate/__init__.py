"""What calibration images say about the inputs of every weight, and how to refit to fewer.

    list_consumers(graph, groups)            which weight reads which channels: Consumer
    collect(graph, consumers, images)        mean and X^T X of each one's input: Moments
    compensate(module, consumers, moments, removal)    weights for the channels that stay
    calibrate(graph, groups, images)         the first two, as a Compensator that does the third

Label-free and gradient-free. One pass over the images is enough for everything: the choice of
channels (``psvit.saliency``, obs), sensitivity with compensation, and the recovery itself.

Canonical form (see ``consumers``): a layer has G convolution groups of O outputs and c columns,
and ``weight.reshape(G, O, c)`` multiplies the rows that ``patches(consumer.geometry, x)`` yields
as ``[G, n, c]``. ``Consumer.lost(removal)`` is ``[G, c]`` too. A fit that wants other inputs or
targets than the dense model's, such as sequential least squares, can build on ``list_consumers``
and ``patches`` alone.
"""

from psvit.calibrate.compensate import RIDGE as RIDGE
from psvit.calibrate.compensate import compensate as compensate
from psvit.calibrate.compensate import refit as refit
from psvit.calibrate.compensator import Compensator as Compensator
from psvit.calibrate.compensator import calibrate as calibrate
from psvit.calibrate.consumers import Consumer as Consumer
from psvit.calibrate.consumers import list_consumers as list_consumers
from psvit.calibrate.moments import Moments as Moments
from psvit.calibrate.moments import Part as Part
from psvit.calibrate.moments import can_lose as can_lose
from psvit.calibrate.moments import check_images as check_images
from psvit.calibrate.moments import collect as collect
from psvit.calibrate.patches import Geometry as Geometry
from psvit.calibrate.patches import count_rows as count_rows
from psvit.calibrate.patches import patches as patches
