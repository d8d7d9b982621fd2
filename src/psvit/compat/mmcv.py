"""The few names of OpenMMLab's mmcv and mmengine that backbones are written with."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import nn

from psvit.errors import ModelError

Registered = TypeVar("Registered")

_NORMS: dict[str, Callable[..., nn.Module]] = {
    "BN": nn.BatchNorm2d,
    "BN1d": nn.BatchNorm1d,
    "BN2d": nn.BatchNorm2d,
    "BN3d": nn.BatchNorm3d,
    # one process has nothing to synchronise: the same numbers and parameter names
    "SyncBN": nn.BatchNorm2d,
    "LN": nn.LayerNorm,
}
_CONVS: dict[str, Callable[..., nn.Module]] = {
    "Conv": nn.Conv2d,
    "Conv1d": nn.Conv1d,
    "Conv2d": nn.Conv2d,
    "Conv3d": nn.Conv3d,
}
_ACTIVATIONS: dict[str, Callable[..., nn.Module]] = {
    name: getattr(nn, name)
    for name in ("ReLU", "LeakyReLU", "PReLU", "ReLU6", "ELU", "Sigmoid", "Tanh", "GELU", "SiLU")
}
_SHORT = {"BN": "bn", "BN1d": "bn", "BN2d": "bn", "BN3d": "bn", "SyncBN": "bn", "LN": "ln"}


class BaseModule(nn.Module):
    """An ``nn.Module`` that takes ``init_cfg``; initialisation is the constructor's."""

    def __init__(self, init_cfg: Any = None) -> None:
        super().__init__()
        self.init_cfg = init_cfg

    def init_weights(self) -> None:
        """Nothing: weights come from a checkpoint."""


class Registry:
    """A registry whose decorator leaves classes as they are."""

    def __init__(self, name: str = "registry", **kwargs: Any) -> None:
        self.name = name

    def register_module(
        self, name: Any = None, force: bool = False, module: Registered | None = None
    ) -> Any:
        """``@R.register_module()``, ``@R.register_module`` or a plain call."""
        if module is not None:
            return module
        if isinstance(name, type):
            return name

        def leave(thing: Registered) -> Registered:
            return thing

        return leave


def build_norm_layer(
    cfg: Mapping[str, Any], num_features: int, postfix: int | str = ""
) -> tuple[str, nn.Module]:
    """``(name, layer)`` from ``{"type": "BN", ...}``."""
    kind, rest = _split(cfg, _NORMS, "norm")
    frozen = not rest.pop("requires_grad", True)
    layer = _NORMS[kind](num_features, **rest)
    if frozen:
        layer.requires_grad_(False)
    return f"{_SHORT[kind]}{postfix}", layer


def build_conv_layer(cfg: Mapping[str, Any] | None, *args: Any, **kwargs: Any) -> nn.Module:
    """A convolution from ``{"type": "Conv2d"}``, or Conv2d for None."""
    kind, rest = _split(cfg or {"type": "Conv2d"}, _CONVS, "convolution")
    return _CONVS[kind](*args, **kwargs, **rest)


def build_activation_layer(cfg: Mapping[str, Any]) -> nn.Module:
    """An activation from ``{"type": "ReLU", ...}``."""
    kind, rest = _split(cfg, _ACTIVATIONS, "activation")
    return _ACTIVATIONS[kind](**rest)


def _split(
    cfg: Mapping[str, Any], table: Mapping[str, Any], what: str
) -> tuple[str, dict[str, Any]]:
    kind = cfg.get("type")
    if kind not in table:
        raise ModelError(
            f"mmcv: {what} {kind!r} is missing from psvit's stand-in, which has "
            f"{', '.join(sorted(table))}; install mmcv"
        )
    return str(kind), {k: v for k, v in cfg.items() if k != "type"}


def get_logger(*args: Any, **kwargs: Any) -> logging.Logger:
    """mmcv's logger: a plain one."""
    return logging.getLogger("mmcv")


CNN: dict[str, Any] = {
    "build_norm_layer": build_norm_layer,
    "build_conv_layer": build_conv_layer,
    "build_activation_layer": build_activation_layer,
}
MODEL: dict[str, Any] = {"BaseModule": BaseModule, "Sequential": nn.Sequential}
REGISTRY: dict[str, Any] = {"Registry": Registry, "MODELS": Registry("models")}
LOGGING: dict[str, Any] = {"get_logger": get_logger}
