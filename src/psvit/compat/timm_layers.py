"""Layers and initialisers of old timm that spiking transformers are built from.

Written from their published definitions: stochastic depth (Huang et al., arXiv:1603.09382),
weight standardisation (Brock et al., arXiv:2101.08692), ViT's MLP and patch embedding
(Dosovitskiy et al., arXiv:2010.11929). Parameter names are timm's, so that checkpoints load.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import repeat
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def to_ntuple(n: int) -> Callable[[Any], tuple[Any, ...]]:
    """A function that repeats a single value n times, and makes a tuple of a sequence."""

    def parse(value: Any) -> tuple[Any, ...]:
        if isinstance(value, Iterable) and not isinstance(value, str):
            return tuple(value)
        return tuple(repeat(value, n))

    return parse


to_1tuple, to_2tuple, to_3tuple, to_4tuple = (to_ntuple(n) for n in (1, 2, 3, 4))


def make_divisible(
    v: float, divisor: int = 8, min_value: int | None = None, round_limit: float = 0.9
) -> int:
    """``v`` rounded to a multiple of ``divisor``, at least ``round_limit * v``."""
    low = min_value or divisor
    rounded = max(low, int(v + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < round_limit * v else rounded


def drop_path(
    x: Tensor, drop_prob: float = 0.0, training: bool = False, scale_by_keep: bool = True
) -> Tensor:
    """Zero whole samples (axis 0) with probability ``drop_prob`` while training."""
    if drop_prob == 0.0 or not training:
        return x
    keep = 1.0 - drop_prob
    mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
    if keep > 0.0 and scale_by_keep:
        mask.div_(keep)
    return x * mask


class DropPath(nn.Module):
    """``drop_path`` as a layer; the identity in eval mode."""

    def __init__(self, drop_prob: float | None = 0.0, scale_by_keep: bool = True) -> None:
        super().__init__()
        self.drop_prob = drop_prob or 0.0
        self.scale_by_keep = scale_by_keep

    def forward(self, x: Tensor) -> Tensor:
        return drop_path(x, self.drop_prob, self.training, self.scale_by_keep)

    def extra_repr(self) -> str:
        return f"drop_prob={self.drop_prob:.3f}"


def trunc_normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0
) -> Tensor:
    """Fill from a normal distribution cut off at ``a`` and ``b`` (absolute values)."""
    return nn.init.trunc_normal_(tensor, mean, std, a, b)


def trunc_normal_tf_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0
) -> Tensor:
    """As ``trunc_normal_`` with the cut-off in standard deviations."""
    nn.init.trunc_normal_(tensor, 0.0, 1.0, a, b)
    with torch.no_grad():
        return tensor.mul_(std).add_(mean)


def variance_scaling_(
    tensor: Tensor, scale: float = 1.0, mode: str = "fan_in", distribution: str = "normal"
) -> Tensor:
    """Fill with variance ``scale / fan``; ``distribution``: normal, truncated_normal, uniform."""
    fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(tensor)
    fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[mode]
    std = math.sqrt(scale / fan)
    with torch.no_grad():
        if distribution == "truncated_normal":
            # the standard deviation of a normal distribution cut at two of its own
            return trunc_normal_tf_(tensor, std=std / 0.87962566103423978)
        if distribution == "normal":
            return tensor.normal_(std=std)
        return tensor.uniform_(-math.sqrt(3) * std, math.sqrt(3) * std)


def lecun_normal_(tensor: Tensor) -> Tensor:
    """Truncated normal with variance ``1 / fan_in``."""
    return variance_scaling_(tensor, mode="fan_in", distribution="truncated_normal")


class Mlp(nn.Module):
    """fc1, activation, fc2 on the last axis."""

    def __init__(
        self,
        in_features: int,
        hidden_features: int | None = None,
        out_features: int | None = None,
        act_layer: Callable[[], nn.Module] = nn.GELU,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        hidden = hidden_features or in_features
        self.fc1 = nn.Linear(in_features, hidden)
        self.act = act_layer()
        self.fc2 = nn.Linear(hidden, out_features or in_features)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))
        return out


class PatchEmbed(nn.Module):
    """``[B, C, H, W]`` to one token a patch: ``[B, N, embed_dim]``."""

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        patch_size: int | tuple[int, int] = 16,
        in_chans: int = 3,
        embed_dim: int = 768,
        norm_layer: Callable[[int], nn.Module] | None = None,
        flatten: bool = True,
    ) -> None:
        super().__init__()
        self.img_size = to_2tuple(img_size)
        self.patch_size = to_2tuple(patch_size)
        self.grid_size = tuple(s // p for s, p in zip(self.img_size, self.patch_size, strict=True))
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        self.flatten = flatten
        self.proj = nn.Conv2d(in_chans, embed_dim, self.patch_size, stride=self.patch_size)
        self.norm = norm_layer(embed_dim) if norm_layer else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.proj(x)
        if self.flatten:
            x = x.flatten(2).transpose(1, 2)
        out: Tensor = self.norm(x)
        return out


class ScaledStdConv2d(nn.Conv2d):
    """A convolution whose filters are standardised, then scaled by a learned gain."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int | None = None,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        gamma: float = 1.0,
        eps: float = 1e-6,
        gain_init: float = 1.0,
    ) -> None:
        same = (stride - 1 + dilation * (kernel_size - 1)) // 2
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            same if padding is None else padding,
            dilation,
            groups,
            bias,
        )
        self.gain = nn.Parameter(torch.full((out_channels, 1, 1, 1), gain_init))
        self.scale = gamma * self.weight[0].numel() ** -0.5
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        weight = F.batch_norm(
            self.weight.reshape(1, self.out_channels, -1),
            None,
            None,
            weight=(self.gain * self.scale).view(-1),
            training=True,
            momentum=0.0,
            eps=self.eps,
        ).reshape_as(self.weight)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


LAYERS: dict[str, Any] = {
    thing.__name__: thing
    for thing in (
        DropPath,
        Mlp,
        PatchEmbed,
        ScaledStdConv2d,
        drop_path,
        lecun_normal_,
        make_divisible,
        to_ntuple,
        trunc_normal_,
        trunc_normal_tf_,
        variance_scaling_,
    )
} | {
    "to_1tuple": to_1tuple,
    "to_2tuple": to_2tuple,
    "to_3tuple": to_3tuple,
    "to_4tuple": to_4tuple,
}
