"""The recipes that have a name, those of the published models as their authors evaluate them.

The authors' code was read at github.com/ZK-Zhou/spikformer (6212689), and in BICLab's
Spike-Driven-Transformer (3faa822), -V2 (35f245f), -V3 (00fcd1f), zhouchenlin2096's Spikingformer
(4378623) and QKFormer (c2a00e8), bic-L/MaxFormer (6ddd4cc) and xyshi2000/SpikingResformer
(3f75127).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from psvit.data.recipe import Recipe
from psvit.errors import DataError, OptionError

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _bicubic(size: int, resize: int) -> Recipe:
    return Recipe(size=size, mean=_MEAN, std=_STD, resize=resize, interpolation="bicubic")


def _spikformer(size: int) -> Recipe:
    # imagenet/imagenet.yml of both: img_size 224, crop_pct 1.0, bicubic; timm's evaluation
    # transform resizes to floor(img_size / crop_pct).
    return _bicubic(size, size)


def _spikingresformer(size: int) -> Recipe:
    # load_data in main.py, for ImageNet: timm's loader with crop_pct 0.95, bicubic.
    return _bicubic(size, math.floor(size / 0.95))


def _sdt(size: int) -> Recipe:
    # conf/imagenet/*.yml: img_size 224, crop_pct 0.95, bicubic. firing_num.py --large-valid is a
    # transform of its own: torchvision's Resize(320), which is bilinear, and CenterCrop(288).
    if size == 288:
        return Recipe(size=288, mean=_MEAN, std=_STD, resize=320)
    return _bicubic(size, math.floor(size / 0.95))


def _mae_style(short: int) -> Callable[[int], Recipe]:
    # build_transform in util/datasets.py: Resize(int(size / (224 / short)), BICUBIC), CenterCrop;
    # above 224 pixels nothing is cropped away but the longer side.
    def recipe(size: int) -> Recipe:
        return _bicubic(size, int(size / (224 / short)) if size <= 224 else size)

    return recipe


_AT_SIZE: Mapping[str, Callable[[int], Recipe]] = {
    "spikformer": _spikformer,
    "spikingformer": _spikformer,
    "sdt": _sdt,
    "sdt-v2": _mae_style(256),  # classification/util/datasets.py
    "sdt-v3": _mae_style(232),  # SDT_V3/Classification/Model_{Base,Large}/util/datasets.py
    "qkformer": _mae_style(256),  # imagenet/util/datasets.py
    "maxformer": _mae_style(256),  # imagenet/utils.py
    "spikingresformer": _spikingresformer,
}
"""What the authors do at any size of image: the resize follows from it."""

RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        # Mean and std are those of the 1,438 training digits at this size.
        "digits": Recipe(size=16, mean=(0.3055,), std=(0.3189,)),
        # The customary figures of CIFAR-10's training images.
        "cifar10": Recipe(size=32, mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616)),
        # The customary evaluation of ImageNet classifiers.
        "imagenet": Recipe(size=224, mean=_MEAN, std=_STD, resize=256),
        **{name: at_size(224) for name, at_size in _AT_SIZE.items()},
    }
)


def make_recipe(
    name: str | None = None,
    *,
    size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    resize: int | None = None,
    interpolation: str | None = None,
) -> Recipe | None:
    """The recipe that flags describe: a name, a name with changes, or numbers alone.

    With another `size`, the recipe of a published model resizes as its authors do for that size.

    None if nothing is given. Raises OptionError for an unknown name, DataError if numbers that
    no name supplies are missing.
    """
    given: dict[str, Any] = {
        key: value
        for key, value in {
            "size": size,
            "mean": None if mean is None else tuple(mean),
            "std": None if std is None else tuple(std),
            "resize": resize,
            "interpolation": interpolation,
        }.items()
        if value is not None
    }
    if name is not None:
        if name not in RECIPES:
            raise OptionError(f"no recipe is called {name!r}: expected one of {', '.join(RECIPES)}")
        named = RECIPES[name]
        if size is not None and size >= 1 and name in _AT_SIZE:
            named = _AT_SIZE[name](size)
        return replace(named, **given)
    if not given:
        return None
    missing = [f"--{key}" for key in ("size", "mean", "std") if key not in given]
    if missing:
        raise DataError(
            f"the preprocessing is incomplete: give {', '.join(missing)} too, or --recipe with "
            f"one of {', '.join(RECIPES)}"
        )
    return Recipe(**given)
