"""What a fine-tuning is: every number that changes its outcome, and nothing else."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from psvit.errors import OptionError
from psvit.train import Augment, TrainConfig

AUGMENTATIONS = ("none", "light", "timm")
NORMS = ("auto", "batch", "frozen")
CALIBRATION = 1024
"""Training images on which batch-norm statistics are taken afresh, after every epoch."""


@dataclass(frozen=True)
class Tuning:
    """Distillation by AdamW with a linear warm-up and a cosine. Raises OptionError.

    ``epochs`` may be a fraction, ``batch`` is in images over all devices, ``warmup`` the share of
    the steps until the highest learning rate ``lr``. ``clip`` bounds the gradient's norm (0: no
    bound), ``ema`` is the decay of averaged weights (0: none), ``bf16`` computes in bfloat16.

    ``temperature`` softens both models' class probabilities. ``label_weight`` is the share of the
    loss that goes by labels: 0 needs none, 1 needs no teacher. ``features``: patterns such as
    ``"blocks.*.conv"`` of the names of layers whose outputs are matched too, weighed by
    ``feature_weight``; see ``psvit.finetune.distill``.

    ``norms``: with batch, batch norms divide by the deviation of each batch, and have their
    statistics taken afresh after every epoch; frozen, they keep those that they have, such as
    matched ones; auto is frozen if those are better at the start, and has them matched to the
    teacher's in the end if that is better still (``psvit.finetune.norms``).

    ``augment``: none; light, a shift by up to an eighth and, of colour images, mirroring; timm,
    which is RandAugment, erasing, mixup and cutmix on top. ``held_out``: the share of the training
    images that chooses the weights to keep, and is not trained on.
    """

    epochs: float = 1.0
    lr: float = 1e-3
    batch: int = 64
    weight_decay: float = 0.01
    warmup: float = 0.1
    clip: float = 1.0
    ema: float = 0.0
    bf16: bool = False
    temperature: float = 2.0
    label_weight: float = 0.0
    features: tuple[str, ...] = ()
    feature_weight: float = 1.0
    norms: str = "auto"
    augment: str = "light"
    held_out: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", tuple(self.features))
        _require(self.epochs > 0, f"epochs is {self.epochs}, expected more than 0")
        _require(
            math.isfinite(self.temperature) and self.temperature > 0,
            f"temperature is {self.temperature}, expected more than 0",
        )
        _require(
            math.isfinite(self.feature_weight) and self.feature_weight >= 0,
            f"feature weight is {self.feature_weight}, expected 0 or more",
        )
        _require(
            0 <= self.label_weight <= 1,
            f"label weight is {self.label_weight}, expected 0 (no labels) to 1 (no teacher)",
        )
        _require(0 <= self.warmup < 1, f"warmup is {self.warmup}, expected a share below 1")
        _require(0 <= self.held_out < 1, f"held-out is {self.held_out}, expected a share below 1")
        _require(
            self.augment in AUGMENTATIONS,
            f"no augmentation is called {self.augment!r}, expected one of "
            f"{', '.join(AUGMENTATIONS)}",
        )
        _require(
            self.norms in NORMS,
            f"norms are {self.norms!r}, expected one of {', '.join(NORMS)}",
        )
        train_config(self, shape=(3, 32, 32), steps=1)  # checks the rest

    @property
    def taught(self) -> bool:
        """Whether the teacher has a say."""
        return self.label_weight < 1 or bool(self.features)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**dataclasses.asdict(self), "features": list(self.features)}


def train_config(
    tuning: Tuning, shape: tuple[int, ...], steps: int, *, channels_last: bool = False
) -> TrainConfig:
    """What the training loop is told: images of ``shape`` (C, H, W), or frames
    of events (T, P, H, W), ``steps`` an epoch; ``channels_last``: if the student can do with it."""
    return TrainConfig(
        epochs=tuning.epochs,
        batch=tuning.batch,
        lr=tuning.lr,
        weight_decay=tuning.weight_decay,
        warmup=tuning.warmup * tuning.epochs,
        clip=tuning.clip,
        ema=tuning.ema,
        bf16=tuning.bf16,
        channels_last=channels_last,
        label_smoothing=0.0,
        bn_batches=min(steps, math.ceil(CALIBRATION / max(1, tuning.batch))),
        log_steps=max(1, steps // 10),
        seed=tuning.seed,
        augment=_augment(tuning.augment, shape),
    )


def _augment(name: str, shape: tuple[int, ...]) -> Augment:
    if name == "none":
        return Augment()
    # Grey images tend to be signs, and a mirrored sign is another one.
    light = Augment(crop=max(1, min(shape[-2:]) // 8), flip=shape[-3] == 3)
    if name == "light":
        return light
    # timm's recipe for vision transformers: rand-m9, reprob 0.25, mixup 0.8, cutmix 1.0.
    return dataclasses.replace(light, rand=9, erase=0.25, mixup=0.8, cutmix=1.0)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise OptionError(f"fine-tuning: {message}")
