"""Fine-tune a pruned model: the dense one teaches it, with or without labels.

    finetune(small, dense, data, Tuning(epochs=5))      in place; returns a Tuned

The loop is that of `psvit.train`; here are what it minimises, whom it learns from, and which part
of the training data chooses the weights that are kept.
"""

from psvit.finetune.run import Tuned as Tuned
from psvit.finetune.run import finetune as finetune
from psvit.finetune.tuning import AUGMENTATIONS as AUGMENTATIONS
from psvit.finetune.tuning import Tuning as Tuning
