"""The settings that the named models are trained with: what retraining them starts from."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from psvit.train.config import Augment, TrainConfig

_CIFAR10 = TrainConfig(
    epochs=28,
    batch=64,
    lr=2e-3,
    weight_decay=0.05,
    warmup=1,
    bn_batches=200,
    channels_last=True,
    early_T=1,
    early_tau=1.4,
    early_size=24,
    early_share=0.88,
    augment=Augment(crop=4, flip=True),
)

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
