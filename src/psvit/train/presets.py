"""The settings that the named models are trained with: what retraining them starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from psvit.train.config import Augment, TrainConfig

_CIFAR10 = TrainConfig(
    epochs=60,
    batch=512,
    lr=4e-3,
    weight_decay=0.06,
    warmup=3,
    bf16=True,
    channels_last=True,
    early_T=1,
    early_tau=1.4,
    early_share=0.6,
    bn_batches=40,
    augment=Augment(crop=4, flip=True, cutmix=0.5),
)
"""For a GPU; on a CPU without bfloat16 arithmetic give ``--no-bf16``."""

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
        # these two are what the weights in the package were trained with
        "spikformer-cifar10": replace(
            _CIFAR10,
            epochs=34,
            early_share=0.7353,
            augment=Augment(crop=4, flip=True, erase=0.25),
        ),
        "sdt-cifar10": replace(_CIFAR10, epochs=15),
        "meta-spikeformer-cifar10": _CIFAR10,
    }
)


def preset_of(name: str) -> TrainConfig:
    """The settings of a named model, or general ones."""
    return PRESETS.get(name, TrainConfig())
