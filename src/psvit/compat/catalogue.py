"""Which modules have a stand-in, and how each is made."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

from psvit.compat import clock_driven
from psvit.compat.finder import Build
from psvit.compat.packages import absent
from psvit.compat.standins import EmptyModule, RealModule
from psvit.compat.timm_registry import Registry

EMPTY = (
    "IPython",
    "PIL",
    "albumentations",
    "cv2",
    "decord",
    "dv",
    "librosa",
    "mmcv",
    "mmengine",
    "pandas",
    "skimage",
    "spikingjelly.activation_based.auto_cuda",
    "timm.data",
    "timm.loss",
    "timm.models.helpers",
    "timm.optim",
    "timm.scheduler",
    "timm.utils",
    "tonic",
    "torchaudio",
    "torchvision",
)
"""Training and data code: imported by model files, not computed with."""

INERT = (
    "matplotlib",
    "mpl_toolkits",
    "plotly",
    "ptflops",
    "pylab",
    "seaborn",
    "tensorboardX",
    "thop",
    "torchinfo",
    "torchsummary",
    "wandb",
)
"""Plotting and printing: may even be called while a file loads (``matplotlib.use("Agg")``)."""

# What timm.data.constants says, for models that put it in their configuration.
_CONSTANTS = {
    "DEFAULT_CROP_PCT": 0.875,
    "IMAGENET_DEFAULT_MEAN": (0.485, 0.456, 0.406),
    "IMAGENET_DEFAULT_STD": (0.229, 0.224, 0.225),
    "IMAGENET_INCEPTION_MEAN": (0.5, 0.5, 0.5),
    "IMAGENET_INCEPTION_STD": (0.5, 0.5, 0.5),
}


class Catalogue:
    """The stand-ins of one load: timm's registry starts empty each time."""

    def __init__(self) -> None:
        self._registry = Registry()

    def lookup(self, name: str) -> tuple[Build, str] | None:
        """How to make the stand-in for the module ``name``, and why; None without one."""
        if name == clock_driven.NAME or name.startswith(clock_driven.NAME + "."):
            part = name[len(clock_driven.NAME) + 1 :]
            if part and part not in clock_driven.PARTS:
                return None
            return partial(clock_driven.build, part), "served by the installed SpikingJelly 2"
        real = self._real()
        contents = real.get(name)
        inert = any(_within(name, prefix) for prefix in INERT)
        is_empty = inert or any(_within(name, prefix) for prefix in EMPTY)
        if contents is None and not is_empty:
            return None
        children = {n.rpartition(".")[2] for n in (*real, *EMPTY) if n.rpartition(".")[0] == name}

        def build() -> ModuleType:
            names = {} if contents is None else contents()
            if is_empty:
                return EmptyModule(name, names, children, inert)
            return RealModule(name, names, children)

        why = f"{absent(name)}, psvit stands in"
        return build, why if contents is not None else f"{why} with empty names"

    def _real(self) -> dict[str, Callable[[], dict[str, Any]]]:
        return {
            "timm": self._registry.names,
            "timm.data": lambda: dict(_CONSTANTS),
            "timm.data.constants": lambda: dict(_CONSTANTS),
            "timm.layers": _timm_layers,
            "timm.models": lambda: self._registry.names() | _timm_layers(),
            "timm.models.layers": _timm_layers,
            "timm.models.layers.drop": _timm_layers,
            "timm.models.layers.weight_init": _timm_layers,
            "timm.models.layers.helpers": _timm_layers,
            "timm.models.registry": self._registry.names,
            "timm.models.vision_transformer": _timm_transformer,
            "mmcv.cnn": lambda: _mmcv("CNN"),
            "mmcv.runner": lambda: _mmcv("MODEL"),
            "mmcv.utils": lambda: _mmcv("REGISTRY"),
            "mmengine.logging": lambda: _mmcv("LOGGING"),
            "mmengine.model": lambda: _mmcv("MODEL"),
            "mmengine.registry": lambda: _mmcv("REGISTRY"),
        }


def _within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def _timm_layers() -> dict[str, Any]:
    from psvit.compat.timm_layers import LAYERS

    return dict(LAYERS)


def _timm_transformer() -> dict[str, Any]:
    from psvit.compat.timm_layers import LAYERS
    from psvit.compat.timm_transformer import Attention, Block, default_cfg

    return LAYERS | {"Attention": Attention, "Block": Block, "_cfg": default_cfg}


def _mmcv(part: str) -> dict[str, Any]:
    from psvit.compat import mmcv

    return dict(getattr(mmcv, part))
