"""Public SViT repositories, and how to build a small model from each, as its authors wrote it.

Sizes are small so that every group can be checked in float64; nothing of the code is changed.
A build takes the imported file and T, and returns the model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from torch import nn

Build = Callable[[Any, int], nn.Module]
Size = int | Literal["T"]


@dataclass(frozen=True)
class Published:
    """A model file of a repository; ``shape`` of its input, where "T" stands for time steps."""

    name: str
    repository: str
    file: str
    shape: tuple[Size, ...]
    build: Build
    steps: tuple[int, ...] = (1, 4)
    batch_axis: int = 0

    def sizes(self, T: int, batch: int) -> list[int]:
        """The shape of an input of ``batch`` samples."""
        sizes = [T if size == "T" else size for size in self.shape]
        sizes[self.batch_axis] = batch
        return sizes


def habit(name: str, *, tells_T: bool = True, **changed: Any) -> Build:
    """The argument names that most of these repositories took over from the first one."""

    def build(module: Any, T: int) -> nn.Module:
        arguments: dict[str, Any] = {
            "img_size_h": 32,
            "img_size_w": 32,
            "patch_size": 4,
            "in_channels": 3,
            "num_classes": 10,
            "embed_dims": 48,
            "num_heads": 4,
            "mlp_ratios": 4,
            "depths": 2,
            "sr_ratios": 1,
            "norm_layer": partial(nn.LayerNorm, eps=1e-6),
            "qkv_bias": False,
        }
        if "size" in changed:
            arguments |= {"img_size_h": changed["size"], "img_size_w": changed["size"]}
        arguments |= {k: v for k, v in changed.items() if k != "size"}
        if tells_T:
            arguments["T"] = T
        model: nn.Module = getattr(module, name)(**arguments)
        return model

    return build


def called(name: str, steps: str = "T", **arguments: Any) -> Build:
    """A class or function that takes T under the name ``steps`` and these arguments."""

    def build(module: Any, T: int) -> nn.Module:
        model: nn.Module = getattr(module, name)(**{steps: T}, **arguments)
        return model

    return build


def with_T(build: Build) -> Build:
    """T is an attribute that the authors set in the class."""

    def built(module: Any, T: int) -> nn.Module:
        model: Any = build(module, T)
        model.T = T
        checked: nn.Module = model
        return checked

    return built


def meta(name: str, channels: int = 3) -> Build:
    """Meta-SpikeFormer of the second and third Spike-driven Transformer."""

    def build(module: Any, T: int) -> nn.Module:
        model: nn.Module = getattr(module, name)(
            img_size_h=32,
            img_size_w=32,
            patch_size=16,
            in_channels=channels,
            num_classes=10,
            mlp_ratios=4,
            sr_ratios=1,
            qkv_bias=False,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            embed_dim=[8, 16, 32, 40],
            num_heads=8,
            depths=8,
        )
        return model

    return with_T(build)


def resformer(module: Any, T: int) -> nn.Module:
    """SpikingResformer with its own prologue for 32x32 images."""
    layer = module.layer
    model: nn.Module = module.SpikingResformer(
        [["DSSA", "GWFFN"]] * 3,
        [16, 48, 96],
        [1, 3, 6],
        [4, 2, 1],
        img_size=32,
        T=T,
        in_channels=3,
        num_classes=10,
        group_size=16,
        prologue=nn.Sequential(
            layer.Conv2d(3, 16, 3, padding=1, bias=False, step_mode="m"),
            layer.BatchNorm2d(16, step_mode="m"),
        ),
    )
    return model


def supernet(module: Any, T: int) -> nn.Module:
    """Auto-Spikformer, with the largest of its choices."""
    model: Any = habit("Spikformer")(module, T)
    model.set_sample_config(
        {
            "embed_dim": [48, 48],
            "mlp_ratio": [4, 4],
            "layer_num": 2,
            "num_heads": [4, 4],
            "time_step": T,
            "threshold": [1.0, 1.0],
            "tau": [2.0, 2.0],
        }
    )
    chosen: nn.Module = model
    return chosen


IMAGE: tuple[Size, ...] = (2, 3, 32, 32)
EVENTS_64: tuple[Size, ...] = (2, "T", 2, 64, 64)
EVENTS_128: tuple[Size, ...] = (2, "T", 2, 128, 128)

_SDT = habit("SpikeDrivenTransformer", pooling_stat="0011")
_V1 = "model/spikeformer.py"
_SDT_1 = "BICLab/Spike-Driven-Transformer"
_TOKENS = "xlzhou126/TP-Spikformer-Token-Pruned-Spiking-Transformer"
_STEP = "Fancyssc/STEP"
_ST = "Bennie123-byte/Spiking-ST-former-An-improved-spiking-transformer-with-spatio-temporal-"

CATALOGUE: tuple[Published, ...] = (
    Published(
        "Spikformer, CIFAR-10", "ZK-Zhou/spikformer", "cifar10/model.py", IMAGE, habit("Spikformer")
    ),
    Published(
        "Spikformer, events",
        "ZK-Zhou/spikformer",
        "cifar10dvs/model.py",
        EVENTS_128,
        habit("Spikformer", tells_T=False, size=128, in_channels=2, patch_size=16),
    ),
    Published(
        "Spikformer, ImageNet",
        "ZK-Zhou/spikformer",
        "imagenet/model.py",
        (2, 3, 64, 64),
        habit("Spikformer", tells_T=False, size=64, patch_size=16),
        (4,),
    ),
    Published(
        "Spikingformer, CIFAR-10",
        "zhouchenlin2096/Spikingformer",
        "cifar10/model.py",
        IMAGE,
        habit("vit_snn"),
    ),
    Published(
        "Spikingformer, events",
        "zhouchenlin2096/Spikingformer",
        "cifar10-dvs/model.py",
        EVENTS_128,
        habit("vit_snn", size=128, in_channels=2, patch_size=16),
        (4,),
    ),
    Published(
        "Spikingformer, ImageNet",
        "zhouchenlin2096/Spikingformer",
        "imagenet/model.py",
        (2, 3, 64, 64),
        habit("vit_snn", size=64, patch_size=16),
        (4,),
    ),
    Published(
        "Spikingformer with CML",
        "zhouchenlin2096/Spikingformer-CML",
        "cifar10/model.py",
        IMAGE,
        habit("vit_snn"),
        (4,),
    ),
    Published("Spike-driven Transformer v1", _SDT_1, _V1, IMAGE, _SDT),
    Published(
        "Spike-driven Transformer v1, events",
        _SDT_1,
        _V1,
        EVENTS_64,
        habit("SpikeDrivenTransformer", size=64, in_channels=2, pooling_stat="1111", dvs_mode=True),
    ),
    Published(
        "Spike-driven Transformer v1, PLIF",
        _SDT_1,
        _V1,
        IMAGE,
        habit("SpikeDrivenTransformer", pooling_stat="0011", spike_mode="plif"),
    ),
    Published(
        "Meta-SpikeFormer (v2)",
        "BICLab/Spike-Driven-Transformer-V2",
        "classification/models.py",
        IMAGE,
        meta("Spiking_vit_MetaFormer"),
    ),
    Published(
        "E-SpikeFormer (v3)",
        "BICLab/Spike-Driven-Transformer-V3",
        "SDT_V3/Classification/Model_Base/models.py",
        IMAGE,
        meta("Spiking_vit_MetaFormer_Spike_SepConv"),
    ),
    Published(
        "E-SpikeFormer (v3), large",
        "BICLab/Spike-Driven-Transformer-V3",
        "SDT_V3/Classification/Model_Large/spikformer.py",
        IMAGE,
        called(
            "Spikformer",
            img_size_h=32,
            img_size_w=32,
            embed_dim=[8, 16, 32],
            num_heads=8,
            num_classes=10,
            depths=4,
            nb_classes=10,
            choice="large",
        ),
    ),
    Published(
        "E-SpikeFormer (v3), events",
        "BICLab/Spike-Driven-Transformer-V3",
        "SDT_V3/DVS/Hardvs/models.py",
        ("T", 2, 2, 32, 32),
        meta("Spiking_vit_MetaFormer", channels=2),
        batch_axis=1,
    ),
    Published(
        "QKFormer, CIFAR-10",
        "zhouchenlin2096/QKFormer",
        "cifar10/model.py",
        IMAGE,
        habit("spiking_transformer", embed_dims=64, num_heads=8, depths=3),
    ),
    Published(
        "QKFormer, ImageNet",
        "zhouchenlin2096/QKFormer",
        "imagenet/qkformer.py",
        IMAGE,
        habit("hierarchical_spiking_transformer", depths=4),
    ),
    Published(
        "QKFormer, events",
        "zhouchenlin2096/QKFormer",
        "cifar10-dvs/model.py",
        EVENTS_64,
        habit("vit_snn", size=64, in_channels=2, embed_dims=64, depths=4, mlp_ratios=1),
    ),
    Published(
        "SpikingResformer",
        "xyshi2000/SpikingResformer",
        "models/spikingresformer.py",
        IMAGE,
        resformer,
    ),
    Published(
        "MaxFormer, CIFAR",
        "bic-L/MaxFormer",
        "cifar10-100/max_former.py",
        IMAGE,
        called("Max_Former", in_channels=3, num_classes=10, embed_dims=64, mlp_ratios=2, depths=4),
    ),
    Published(
        "MaxFormer, ImageNet",
        "bic-L/MaxFormer",
        "imagenet/max_former.py",
        IMAGE,
        called("Max_Former", in_channels=3, num_classes=10, embed_dims=96, mlp_ratios=4, depths=10),
    ),
    Published(
        "MaxFormer, events",
        "bic-L/MaxFormer",
        "event/max_former.py",
        EVENTS_64,
        called(
            "Max_Former", in_channels=2, num_classes=10, embed_dims=64, mlp_ratios=1.0, depths=2
        ),
    ),
    Published(
        "MS-QKFormer",
        "bic-L/MaxFormer",
        "cifar10-100/ms_qkformer.py",
        IMAGE,
        called("MS_QKformer", in_channels=3, num_classes=10, embed_dims=64, mlp_ratios=2, depths=4),
    ),
    Published(
        "SWformer, CIFAR",
        "bic-L/Spiking-Wavelet-Transformer",
        "cifar10-100/model.py",
        IMAGE,
        called(
            "SWformer",
            img_size_h=32,
            img_size_w=32,
            patch_size=4,
            in_channels=3,
            num_classes=10,
            embed_dims=48,
            mlp_ratios=4,
            FL_blocks=8,
            depths=2,
        ),
    ),
    Published(
        "SWformer, events",
        "bic-L/Spiking-Wavelet-Transformer",
        "event/model.py",
        EVENTS_128,
        called(
            "SWformer",
            img_size_h=128,
            img_size_w=128,
            patch_size=16,
            in_channels=2,
            num_classes=10,
            embed_dims=48,
            mlp_ratios=4,
            FL_blocks=8,
            depths=1,
        ),
    ),
    Published(
        "SWformer, ImageNet",
        "bic-L/Spiking-Wavelet-Transformer",
        "imagenet/model/spikingwavelet.py",
        (2, 3, 64, 64),
        called(
            "SpikingWaveletTransformer",
            img_size_h=64,
            img_size_w=64,
            patch_size=16,
            in_channels=3,
            num_classes=10,
            embed_dims=48,
            mlp_ratios=4,
            depths=2,
            FL_blocks=8,
        ),
        (4,),
    ),
    Published(
        "SGLFormer",
        "ZhangHanN1/SGLFormer",
        "cifar10/sglformer.py",
        IMAGE,
        habit("vit_snn", depths=1),
    ),
    Published(
        "MSViT",
        "Nanhu-AI-Lab/MSViT",
        "cifar100/model.py",
        IMAGE,
        habit("spiking_transformer", embed_dims=64, num_heads=8, depths=3),
    ),
    Published(
        "STAtten",
        "Intelligent-Computing-Lab-Yale/STAtten",
        _V1,
        IMAGE,
        habit("SpikeDrivenTransformer", pooling_stat="0011", attn_mode="STAtten"),
        (4,),
    ),
    Published(
        "TP-Spikformer on v1",
        _TOKENS,
        "sdt_drop/model/sdt_drop.py",
        (2, 3, 224, 224),
        habit("SpikeDrivenTransformer", size=224, patch_size=16, pooling_stat="1111"),
    ),
    Published(
        "TP-Spikformer on QKFormer",
        _TOKENS,
        "qk_drop/qkformer.py",
        IMAGE,
        habit("hierarchical_spiking_transformer", depths=4),
    ),
    Published(
        "TP-Spikformer on v3",
        _TOKENS,
        "sdtv3_drop/models_drop.py",
        (2, 3, 64, 64),
        meta("Spiking_vit_MetaFormer_Spike_SepConv"),
    ),
    Published(
        "SparseSpikformer",
        "Rocherster/SparseSpikformer",
        "cifar10/sparse_new_model.py",
        IMAGE,
        habit("SpikformerPrune", depths=4, pruning_loc=[1, 2, 3], token_ratio=[0.9, 0.8, 0.7]),
    ),
    Published(
        "Spike-driven Transformer, experts",
        "HyunseokErikJung/Spike-Driven-Transformer_MoE",
        _V1,
        IMAGE,
        _SDT,
    ),
    Published(
        "Spike-driven Transformer, hanzh0816",
        "hanzh0816/spike-driven-transformer",
        _V1,
        IMAGE,
        called(
            "SpikeDrivenTransformer",
            "spike_T",
            img_size_h=32,
            img_size_w=32,
            patch_size=4,
            in_channels=3,
            embed_dims=48,
            num_heads=4,
            num_classes=10,
            pooling_stat="_0011",
            depths=2,
        ),
    ),
    Published(
        "Spiking ST-former",
        _ST + "self-attention",
        "Spiking ST-former/imagenet/model.py",
        (2, 3, 64, 64),
        habit("vit_snn", size=64, patch_size=16),
    ),
    Published(
        "STEP's Spikformer",
        _STEP,
        "cls/models/static/spikformer_cifar.py",
        IMAGE,
        called(
            "Spikformer", "step", img_size=32, num_classes=10, embed_dim=48, num_heads=4, depths=2
        ),
        (4,),
    ),
    Published(
        "STEP's Spikingformer",
        _STEP,
        "cls/models/static/spikingformer_cifar.py",
        IMAGE,
        called(
            "Spikformer", "step", img_size=32, num_classes=10, embed_dim=48, num_heads=4, depths=2
        ),
        (4,),
    ),
    Published(
        "STEP's QKFormer",
        _STEP,
        "cls/models/static/qkformer_cifar.py",
        IMAGE,
        called(
            "QKFormer", "step", img_size=32, num_classes=10, embed_dim=96, num_heads=8, depths=4
        ),
        (4,),
    ),
    Published(
        "STEP's SGLFormer",
        _STEP,
        "cls/models/static/sglformer_cifar.py",
        IMAGE,
        called("vit_snn", "step", img_size=32, num_classes=10, embed_dim=48, num_heads=4, depths=1),
        (4,),
    ),
    Published(
        "TIM",
        "Fancyssc/TIM",
        "models/spikformer_braincog_DVS.py",
        EVENTS_64,
        called(
            "Spikformer",
            "step",
            img_size_h=64,
            img_size_w=64,
            patch_size=16,
            embed_dims=64,
            num_heads=4,
            mlp_ratios=4,
            in_channels=2,
            num_classes=10,
            qkv_bias=False,
            depths=2,
            sr_ratios=1,
        ),
    ),
    Published("Auto-Spikformer", "CheKaiWei/Auto-spikformer", "model.py", IMAGE, supernet, (4,)),
    Published(
        "Masked Spiking Transformer",
        "bic-L/Masked-Spiking-Transformer",
        "models/mst.py",
        (2, 3, 64, 64),
        lambda module, T: module.MaskedSpikingTransformer(
            img_size=64,
            patch_size=4,
            in_chans=3,
            num_classes=10,
            embed_dim=24,
            depths=[2, 2],
            num_heads=[3, 6],
            window_size=4,
            drop_path_rate=0.0,
        ),
        (1,),
    ),
)
