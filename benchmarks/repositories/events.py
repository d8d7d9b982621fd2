"""Models for event cameras: recognition, gestures, optical flow."""

from __future__ import annotations

from benchmarks.repositories.builds import called, elastic, habit, spike_vit
from benchmarks.repositories.published import EVENTS_64, Published

EVENTS: tuple[Published, ...] = (
    Published(
        "SpikeViT, events",
        "j-blake-s/CleanSpikeVit",
        "models/spikevit/spikevit.py",
        EVENTS_64,
        spike_vit,
    ),
    Published(
        "QKFormer, gesture chains",
        "AhmedAbdulKarim/QKFormer-DVSGC-2",
        "model.py",
        EVENTS_64,
        habit("vit_snn", size=64, in_channels=2, embed_dims=64, depths=4, mlp_ratios=1),
    ),
    Published(
        "QKFormer, events, Bernuz2003",
        "Bernuz2003/QKFormer",
        "cifar10-dvs/model.py",
        EVENTS_64,
        habit("vit_snn", size=64, in_channels=2, embed_dims=64, depths=4, mlp_ratios=1),
    ),
    Published(
        "Elastic Spikformer, gestures",
        "AlbertoAncilotto/elastic_spiking_transformer",
        "ehw_gesture/model.py",
        EVENTS_64,
        elastic,
    ),
    Published(
        "SDTrack, tracking",
        "YmShan/SDTrack",
        "SDTrack-Event/lib/models/SDTrack/SDTrack_tiny_model.py",
        (2, 3, 128, 128),
        called(
            "Spiking_vit_MetaFormer_Spike_SepConv",
            "sr_ratios",
            img_size_h=224,
            img_size_w=224,
            patch_size=16,
            embed_dim=[8, 16, 32, 40],
            num_heads=8,
            mlp_ratios=4,
            in_channels=3,
            num_classes=10,
            qkv_bias=False,
            depths=8,
        ),
        (1,),
        more=((2, 3, 256, 256),),
    ),
)
