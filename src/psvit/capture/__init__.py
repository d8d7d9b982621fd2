"""What a model computes, recorded by running it."""

from psvit.capture.record import capture as capture
from psvit.capture.replay import RecordedModel as RecordedModel
