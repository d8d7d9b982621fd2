"""What one training run is: every number that changes its outcome, and nothing else."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from psvit.errors import OptionError


@dataclass(frozen=True)
class Augment:
    """Random changes to training images, all off by default.

    ``crop``: pixels of zero padding before a random crop back to size, that is, a shift of up to
    as many pixels. ``flip``: mirror half of the images. ``erase``: probability that a random
    rectangle of 2 to 25 % of the area is greyed out. ``mixup``: alpha of the Beta distribution
    that two images and their labels are blended with. ``cutmix``: that of the share of an image
    that another one covers (Yun et al., "CutMix", ICCV 2019); with both, a batch gets one of them.
    ``rand``: magnitude, below 30, of two random operations (Cubuk et al., "RandAugment", 2020,
    section 3; see ``psvit.train.randaugment``).
    """

    crop: int = 0
    flip: bool = False
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    rand: int = 0

    def __post_init__(self) -> None:
        _require(self.crop >= 0, f"crop is {self.crop}, expected 0 pixels or more")
        _require(0 <= self.erase <= 1, f"erase is {self.erase}, expected a probability")
        for name, alpha in (("mixup", self.mixup), ("cutmix", self.cutmix)):
            _require(math.isfinite(alpha) and alpha >= 0, f"{name} is {alpha}, expected >= 0")
        _require(0 <= self.rand < 30, f"rand is {self.rand}, expected 0 or more, less than 30")


@dataclass(frozen=True)
class TrainConfig:
    """AdamW, a linear warm-up, then a cosine down to ``lr * floor``. Raises OptionError.

    ``epochs`` may be a fraction; 0 trains nothing but takes the statistics of ``bn_batches``.
    ``batch`` is in images, ``warmup`` in epochs. ``clip`` bounds the gradient's norm (0: no bound).
    ``ema`` is the decay of the moving average of the weights that is evaluated and kept (0: none).
    ``log_steps``: steps to a log line (0: one an epoch).
    ``bn_batches``: after the last step, batch-norm statistics are measured afresh over so many
    batches of training images, augmented as in training but not mixed (0: keep the running ones).
    ``frozen_norms``: batch norms compute with the statistics that they have, not with those of a
    batch, and keep them.

    ``early_share`` of the steps runs ``early_T`` time steps in place of the model's own, on
    images shrunk to ``early_size`` pixels a side, through neurons of the membrane time constant
    ``early_tau`` (0: as many, as large, as slow as later; see ``psvit.train.timing``). That is
    cheaper by as much and costs little: the rest is enough to get used to all of them (smaller
    images first: Tan and Le, "EfficientNetV2", ICML 2021, section 4).
    ``channels_last`` is the order in memory that convolutions are faster in. ``compile`` puts
    forward and backward through torch.compile, and on a GPU replays them from CUDA graphs: worth
    its minute in long runs (see ``psvit.train.compiled``).
    """

    epochs: float = 100.0
    batch: int = 128
    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 2.0
    floor: float = 0.0
    label_smoothing: float = 0.1
    clip: float = 1.0
    ema: float = 0.0
    bf16: bool = False
    channels_last: bool = False
    compile: bool = False
    early_T: int = 0
    early_tau: float = 0.0
    early_size: int = 0
    early_share: float = 0.0
    bn_batches: int = 0
    frozen_norms: bool = False
    log_steps: int = 0
    seed: int = 0
    augment: Augment = field(default_factory=Augment)

    def __post_init__(self) -> None:
        positive = {"batch": self.batch, "lr": self.lr}
        for name, value in positive.items():
            _require(math.isfinite(value) and value > 0, f"{name} is {value}, expected more than 0")
        natural = {
            "epochs": self.epochs,
            "weight_decay": self.weight_decay,
            "warmup": self.warmup,
            "clip": self.clip,
            "bn_batches": self.bn_batches,
            "log_steps": self.log_steps,
            "early_T": self.early_T,
            "early_tau": self.early_tau,
            "early_size": self.early_size,
            "seed": self.seed,
        }
        for name, value in natural.items():
            _require(math.isfinite(value) and value >= 0, f"{name} is {value}, expected 0 or more")
        shares = {
            "floor": self.floor,
            "label_smoothing": self.label_smoothing,
            "ema": self.ema,
            "early_share": self.early_share,
        }
        for name, value in shares.items():
            _require(0 <= value < 1, f"{name} is {value}, expected 0 or more, less than 1")

        _require(
            bool(self.early_T or self.early_tau or self.early_size) == bool(self.early_share),
            f"early_T is {self.early_T}, early_tau {self.early_tau}, early_size {self.early_size} "
            f"and early_share {self.early_share}, expected a share with others, or none",
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """The rate of step ``step`` (0 is the first): linear warm-up, then half a cosine."""
    total = total_steps(config, steps_per_epoch)
    warm = min(round(config.warmup * steps_per_epoch), total // 2)
    if step < warm:
        return config.lr * (step + 1) / warm
    progress = (step - warm) / max(1, total - warm)
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return config.lr * (config.floor + (1 - config.floor) * cosine)


def total_steps(config: TrainConfig, steps_per_epoch: int) -> int:
    """Optimizer steps of the whole run: at least one, but of no epochs none."""
    return max(1, round(config.epochs * steps_per_epoch)) if config.epochs else 0


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise OptionError(f"training: {message}")
