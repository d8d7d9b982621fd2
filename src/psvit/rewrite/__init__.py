"""From a graph and a plan to a smaller model."""

from psvit.rewrite.apply import resized as resized
from psvit.rewrite.apply import rewrite as rewrite
from psvit.rewrite.apply import zeroed as zeroed
