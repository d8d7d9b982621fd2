"""SpikingJelly 2.0's spiking vision transformers, unmodified, at a small size."""

from __future__ import annotations

from collections.abc import Callable

from spikingjelly.activation_based.model.maxformer import MaxFormer
from spikingjelly.activation_based.model.qkformer import QKFormer
from spikingjelly.activation_based.model.spike_driven_transformer import SpikeDrivenTransformer
from spikingjelly.activation_based.model.spikformer import Spikformer
from torch import nn

from tests.zoo.case import Case, images
from tests.zoo.parts import CLASSES


def spikformer(steps: int) -> nn.Module:
    """Two blocks, 4 x 4 tokens, 4 heads of 6."""
    return Spikformer(
        T=steps,
        img_size_h=16,
        img_size_w=16,
        patch_size=4,
        num_classes=CLASSES,
        embed_dims=24,
        num_heads=4,
        mlp_ratio=2.0,
        depths=2,
    )


def spike_driven(steps: int) -> nn.Module:
    """Two blocks, 4 x 4 tokens, 4 heads of 6."""
    return SpikeDrivenTransformer(
        T=steps,
        num_classes=CLASSES,
        embed_dims=24,
        num_heads=4,
        depths=2,
        mlp_ratio=2.0,
        pooling_stat="0011",
        detach_reset=True,
    )


def qkformer(kind: str) -> Callable[[int], nn.Module]:
    """One block a stage, 2 to 4 heads; the last stage has 2 x 2 tokens."""

    def build(steps: int) -> nn.Module:
        return QKFormer(
            T=steps,
            num_classes=CLASSES,
            embed_dims=32,
            num_heads=(2, 2, 4),
            depths=(1, 1, 1),
            mlp_ratio=2.0,
            qka_type=kind,
        )

    return build


def maxformer(steps: int) -> nn.Module:
    """One block a stage; wide enough at the end for two attention heads of 64."""
    return MaxFormer(T=steps, num_classes=CLASSES, embed_dims=128, depths=(1, 1, 1), mlp_ratio=1.0)


def maxformer_cifar(steps: int) -> nn.Module:
    """The variant for CIFAR (fused qkv by chunk, 8 heads), one block a stage."""
    return MaxFormer(
        T=steps, num_classes=CLASSES, embed_dims=32, depths=(1, 1, 1), mlp_ratio=2.0, cifar=True
    )


BLOCK = "blocks.0.attn."
QKV = tuple(f"{BLOCK}{name}_conv.weight:0" for name in "qkv")


def both(
    name: str, build: Callable[[int], nn.Module], size: int, heads: int, *axes: str
) -> dict[str, Case]:
    """The model with T = 1 and T = 4."""
    return {
        f"{name}_t{steps}": Case(
            lambda steps=steps: build(steps), images(size=size), axes, heads=heads
        )
        for steps in (1, 4)
    }


CASES: dict[str, Case] = {
    **both(
        "sj_spikformer",
        spikformer,
        16,
        8,
        "patch_embed.stages.0.conv_bn.block.0.weight:0",
        f"{BLOCK}qkv_conv_bn.0.weight:0",
        f"{BLOCK}proj_conv_bn.0.weight:0",
        "blocks.1.mlp.fc1.0.weight:0",
        "head.weight:1",
    ),
    **both(
        "sj_spike_driven",
        spike_driven,
        16,
        8,
        *QKV,
        f"{BLOCK}proj_conv.weight:0",
        "blocks.1.mlp.fc1.weight:0",
        "head.weight:1",
    ),
    **both(
        "sj_qkformer_token",
        qkformer("token"),
        32,
        4,
        "stage1.0.attn.qk_conv_bn.0.weight:0",
        "stage3.0.attn.qkv_conv_bn.0.weight:0",
        "stage2.0.mlp.fc1.weight:0",
        "head.weight:1",
    ),
    **both(
        "sj_qkformer_channel",
        qkformer("channel"),
        32,
        4,
        "stage1.0.attn.qk_conv_bn.0.weight:0",
        "stage3.0.attn.qkv_conv_bn.0.weight:0",
        "head.weight:1",
    ),
    **both(
        "sj_maxformer",
        maxformer,
        32,
        2,
        "patch_embed1.conv1.weight:0",
        "stage1.0.dwconv.weight:0",
        "stage3.0.attn.qkv_conv_bn.0.weight:0",
        "stage3.0.mlp.fc1.weight:0",
        "head.weight:1",
    ),
    **both(
        "sj_maxformer_cifar",
        maxformer_cifar,
        16,
        8,
        "patch_embed1.conv.weight:0",
        "stage1.0.fc1.weight:0",
        "stage3.0.attn.qkv.0.weight:0",
        "head.weight:1",
    ),
}
