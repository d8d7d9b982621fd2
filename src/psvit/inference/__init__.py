"""The same model, computed with less work: for inference alone."""

from psvit.inference.faster import faster as faster
from psvit.inference.faster import fold_batchnorm as fold_batchnorm
from psvit.inference.faster import for_inference as for_inference
from psvit.inference.faster import recorded as recorded
