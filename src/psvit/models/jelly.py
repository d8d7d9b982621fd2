"""Factories of SpikingJelly's spiking vision transformers: the one file that imports it.

Every factory takes keyword arguments with sane defaults and returns an untrained model in
multi-step mode. Input ``[B, C, H, W]`` (repeated T times inside) or ``[T, B, C, H, W]``; output
``[B, K]``, or ``[T, B, K]`` from Spikformer, whose logits are the mean over T.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from psvit.errors import MissingExtra, ModelError

try:
    from spikingjelly.activation_based import functional, neuron
    from spikingjelly.activation_based.model.maxformer import MaxFormer
    from spikingjelly.activation_based.model.qkformer import QKFormer
    from spikingjelly.activation_based.model.spike_driven_transformer import (
        SpikeDrivenTransformer,
    )
    from spikingjelly.activation_based.model.spikformer import Spikformer, SpikformerConv2dBNLIF
except ImportError as error:
    raise MissingExtra(
        f"this model needs SpikingJelly, which did not import ({error}): "
        "install it with `pip install 'psvit[spikingjelly]'`"
    ) from error

_NEURON: dict[str, Any] = {"tau": 2.0, "detach_reset": True}
"""What the papers train with; SpikingJelly's LIFNode lets gradients through the reset."""


def lif(threshold: float = 1.0) -> nn.Module:
    """A layer of LIF neurons as the papers train with: ``[T, *]`` -> spikes ``[T, *]``."""
    node: nn.Module = neuron.LIFNode(v_threshold=threshold, step_mode="m", **_NEURON)
    return node


def spikformer(
    T: int = 4,
    num_classes: int = 1000,
    in_channels: int = 3,
    image_size: int = 224,
    patch_size: int = 16,
    embed_dims: int = 384,
    num_heads: int = 12,
    depths: int = 6,
    mlp_ratio: float = 4.0,
    pooling: str | None = None,
) -> nn.Module:
    """Spikformer; the defaults are SpikingJelly's ``spikformer_s``, Spikformer-8-512 is
    ``embed_dims=512, num_heads=8, depths=8``.

    ``pooling``, four characters 0 or 1, says after which of the stem's convolutions a stride-2
    pooling follows. None: SpikingJelly's, "0011" for patch 4 and "1111" for patch 16. "1100"
    has as many tokens as patch 4, the same weights, and a fraction of its cost.
    """
    model: nn.Module = Spikformer(
        T=T,
        in_channels=in_channels,
        img_size_h=image_size,
        img_size_w=image_size,
        patch_size=patch_size,
        num_classes=num_classes,
        embed_dims=embed_dims,
        num_heads=num_heads,
        mlp_ratio=mlp_ratio,
        depths=depths,
        **_NEURON,
    )
    if pooling is not None:
        _pool_after(model, pooling, in_channels, embed_dims)
    return model


def _pool_after(model: nn.Module, pooling: str, in_channels: int, embed_dims: int) -> None:
    stem: Any = model.patch_embed
    if len(pooling) != 4 or set(pooling) - {"0", "1"}:
        raise ModelError(f"pooling is {pooling!r}, expected four characters 0 or 1 such as '1100'")
    if 2 ** pooling.count("1") != stem.patch_size:
        raise ModelError(
            f"pooling {pooling!r} makes patches of {2 ** pooling.count('1')} pixels, "
            f"but patch_size is {stem.patch_size}: give as many 1s as patch_size has factors of 2"
        )
    widths = [in_channels, embed_dims // 8, embed_dims // 4, embed_dims // 2, embed_dims]
    stages = []
    for i, flag in enumerate(pooling):
        stage = SpikformerConv2dBNLIF(
            widths[i], widths[i + 1], kernel_size=3, padding=1, pool=flag == "1", **_NEURON
        )
        # Pooling has no weights: keep those that Spikformer has initialised its own way.
        stage.load_state_dict(stem.stages[i].state_dict())
        stages.append(stage)
    stem.stages = nn.Sequential(*stages)
    functional.set_step_mode(stem, "m")


def spike_driven_transformer(
    T: int = 4,
    num_classes: int = 1000,
    in_channels: int = 3,
    embed_dims: int = 384,
    num_heads: int = 8,
    depths: int = 8,
    mlp_ratio: float = 4.0,
    pooling: str = "1111",
) -> nn.Module:
    """Spike-driven Transformer; the defaults are SDT-8-384, SDT-8-768 is ``embed_dims=768``.

    ``pooling``, four characters 0 or 1: after which of the stem's convolutions to halve.
    """
    model: nn.Module = SpikeDrivenTransformer(
        T=T,
        in_channels=in_channels,
        num_classes=num_classes,
        embed_dims=embed_dims,
        num_heads=num_heads,
        depths=depths,
        mlp_ratio=mlp_ratio,
        pooling_stat=pooling,
        **_NEURON,
    )
    return model


def qkformer(
    T: int = 4,
    num_classes: int = 1000,
    in_channels: int = 3,
    embed_dims: int = 384,
    num_heads: tuple[int, int, int] = (6, 6, 6),
    depths: tuple[int, int, int] = (1, 2, 7),
    mlp_ratio: float = 4.0,
    attention: str = "token",
) -> nn.Module:
    """QKFormer; the defaults are QKFormer-10-384, QKFormer-10-768 is ``embed_dims=768``.

    ``attention`` of the first two stages: "token" or "channel".
    """
    model: nn.Module = QKFormer(
        T=T,
        in_channels=in_channels,
        num_classes=num_classes,
        embed_dims=embed_dims,
        num_heads=tuple(num_heads),
        depths=tuple(depths),
        mlp_ratio=mlp_ratio,
        qka_type=attention,
        **_NEURON,
    )
    return model


def qkformer_channel(**arguments: Any) -> nn.Module:
    """QKFormer whose first two stages attend over channels; arguments as ``qkformer``."""
    return qkformer(**{"attention": "channel", **arguments})


def maxformer(
    T: int = 4,
    num_classes: int = 1000,
    in_channels: int = 3,
    embed_dims: int = 384,
    depths: tuple[int, int, int] = (1, 2, 7),
    mlp_ratio: float = 4.0,
) -> nn.Module:
    """MaxFormer for ImageNet; the defaults are MaxFormer-10-384."""
    model: nn.Module = MaxFormer(
        T=T,
        in_channels=in_channels,
        num_classes=num_classes,
        embed_dims=embed_dims,
        depths=tuple(depths),
        mlp_ratio=mlp_ratio,
        cifar=False,
        **_NEURON,
    )
    return model


def maxformer_cifar(
    T: int = 4,
    num_classes: int = 100,
    in_channels: int = 3,
    embed_dims: int = 384,
    depths: tuple[int, int, int] = (1, 1, 2),
    mlp_ratio: float = 4.0,
) -> nn.Module:
    """MaxFormer for 32x32 images: another stem and another attention than ImageNet's."""
    model: nn.Module = MaxFormer(
        T=T,
        in_channels=in_channels,
        num_classes=num_classes,
        embed_dims=embed_dims,
        depths=tuple(depths),
        mlp_ratio=mlp_ratio,
        cifar=True,
        **_NEURON,
    )
    return model


def spikformer_digits(
    T: int = 4, num_classes: int = 10, embed_dims: int = 64, depths: int = 2
) -> nn.Module:
    """Spikformer for the 8x8 digits enlarged to 16x16, 1 channel: patch 4, so 16 tokens."""
    return spikformer(
        T=T,
        num_classes=num_classes,
        in_channels=1,
        image_size=16,
        patch_size=4,
        embed_dims=embed_dims,
        num_heads=4,
        depths=depths,
        mlp_ratio=2.0,
    )


def spikformer_cifar10(
    T: int = 4, num_classes: int = 10, embed_dims: int = 192, depths: int = 2
) -> nn.Module:
    """Spikformer for 32x32 images at 64 tokens, whose stem pools last, as the authors' does."""
    return spikformer(
        T=T,
        num_classes=num_classes,
        image_size=32,
        patch_size=4,
        embed_dims=embed_dims,
        num_heads=4,
        depths=depths,
        pooling="0011",
    )


def sdt_cifar10(
    T: int = 4, num_classes: int = 10, embed_dims: int = 192, depths: int = 2
) -> nn.Module:
    """Spike-driven Transformer for 32x32 images at 64 tokens, whose stem pools last."""
    return spike_driven_transformer(
        T=T,
        num_classes=num_classes,
        embed_dims=embed_dims,
        num_heads=4,
        depths=depths,
        pooling="0011",
    )
