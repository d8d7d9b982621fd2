"""The families that psvit defines itself, at a small size: convolutions, then attention."""

from __future__ import annotations

from torch import nn

from psvit.models.e_spikeformer import e_spikeformer
from psvit.models.meta_spikeformer import meta_spikeformer
from tests.zoo.case import Case, images
from tests.zoo.parts import CLASSES

SMALL = {
    "num_classes": CLASSES,
    "embed_dims": (8, 12, 16, 24),
    "num_heads": 2,
    "mlp_ratio": 2,
    "depths": (1, 1),
    "strides": (2, 2, 1, 1, 1),
}
"""Two heads of 8 and of 12; a 16 x 16 image makes 4 x 4 tokens."""

INNER = tuple(
    f"block{stage}.0.attn.{name}_conv.0.body.{layer}"
    for stage in (3, 4)
    for name in ("q", "k", "v", "proj")
    for layer in ("0.weight:0", "1.bn.bias:0", "2.0.weight:0", "2.1.weight:1")
)
"""Inner widths of re-parameterised convolutions: a third of all parameters."""

BOTH = (
    "downsample1_1.encode_conv.weight:0",
    "ConvBlock1_1.0.conv1.weight:0",
    "ConvBlock2_1.0.conv2.weight:0",
    "block3.0.mlp.fc1_conv.weight:0",
    "block4.0.mlp.fc2_conv.weight:0",
    "head.weight:1",
)


def meta(steps: int, distilled: bool = False) -> nn.Module:
    """Meta-SpikeFormer, one block a stage."""
    return meta_spikeformer(T=steps, distilled=distilled, **SMALL)


def integer() -> nn.Module:
    """E-SpikeFormer, one block a stage."""
    return e_spikeformer(**SMALL)


CASES: dict[str, Case] = {
    "sdt_v2_t1": Case(
        lambda: meta(1, distilled=True),
        images(size=16),
        (*BOTH, *INNER, "ConvBlock1_2.0.Conv.dwconv.weight:0", "head_kd.weight:1"),
        heads=4,
    ),
    "sdt_v2_t4": Case(lambda: meta(4), images(size=16), (*BOTH, *INNER), heads=4),
    "sdt_v3": Case(
        integer,
        images(size=16),
        (*BOTH, "block3.0.attn.v_conv.0.weight:0", "block4.0.conv.dwconv.0.weight:0"),
        heads=4,
        unknown=("IntegerSpikes",),
    ),
}
