"""The eight families, as their authors published them."""

from __future__ import annotations

from benchmarks.repositories.builds import called, habit, meta, resformer
from benchmarks.repositories.published import EVENTS_64, EVENTS_128, IMAGE, Published

_SDT_1 = "BICLab/Spike-Driven-Transformer"
_V1 = "model/spikeformer.py"

FAMILIES: tuple[Published, ...] = (
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
    Published(
        "Spike-driven Transformer v1",
        _SDT_1,
        _V1,
        IMAGE,
        habit("SpikeDrivenTransformer", pooling_stat="0011"),
    ),
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
)
