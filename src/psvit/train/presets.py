"""The settings that the named models are trained with: what retraining them starts from."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from psvit.train.config import Augment, TrainConfig

_CIFAR10 = TrainConfig(
    epochs=120,
    batch=512,
    lr=4e-3,
    weight_decay=0.06,
    warmup=3,
    bf16=True,
    channels_last=True,
    early_T=1,
    early_tau=1.4,
    early_share=0.9,
    bn_batches=40,
    augment=Augment(crop=4, flip=True, cutmix=0.5),
)
"""For a GPU, there with ``--compile``; on a CPU without bfloat16 arithmetic give ``--no-bf16``.

The weights in the package were trained so in two runs, the second without cutmix, and got their
batch-norm statistics by a third call; the commands are on the cards beside them.
"""

PRESETS: Mapping[str, TrainConfig] = MappingProxyType(
    {
        "spikformer-digits": TrainConfig(
            epochs=60,
            batch=64,
            lr=3e-3,
            weight_decay=0.05,
            warmup=5,
            bn_batches=22,
            augment=Augment(crop=2),
        ),
        "spikformer-cifar10": _CIFAR10,
        "sdt-cifar10": _CIFAR10,
        "meta-spikeformer-cifar10": _CIFAR10,
    }
)


def preset_of(name: str) -> TrainConfig:
    """The settings of a named model, or general ones."""
    return PRESETS.get(name, TrainConfig())
