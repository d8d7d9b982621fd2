"""Other tasks: segmentation and optical flow of events, faces, sound with images."""

from __future__ import annotations

from benchmarks.repositories.builds import called, flow, habit, stepped, triplet
from benchmarks.repositories.published import EVENTS_64, EVENTS_128, IMAGE, Build, Published

_OST = "songxt3/OST"
_SPIKEFORMER = "Loydian/Spikeformer"
_CROSS_MODAL = "Brain-Cog-Lab/S-CMRL"
_AUDIO_VISUAL = "braincog/model_zoo/spikformer.py"


def _spikeformer(**settings: int) -> Build:
    """A small one."""
    return called(
        "Spikeformer",
        "num_frames",
        n_conv_layers=4,
        stride=[2, 1, 2, 2],
        img_size=64,
        num_classes=10,
        depth=2,
        num_heads=4,
        mlp_ratio=2,
        embed_dim=48,
        **settings,
    )


TASKS: tuple[Published, ...] = (
    Published(
        "One-step Spiking Transformer, ImageNet",
        _OST,
        "imagenet/model.py",
        (2, 3, 64, 64),
        habit("Spikformer", size=64, patch_size=16),
    ),
    Published(
        "One-step Spiking Transformer, CIFAR", _OST, "cifar/model.py", IMAGE, habit("Spikformer")
    ),
    Published(
        "One-step Spiking Transformer, events",
        _OST,
        "dvs_cifar10/model.py",
        EVENTS_128,
        habit("Spikformer", tells_T=False, size=128, in_channels=2, patch_size=16),
    ),
    Published(
        "Spikeformer (2022), images",
        _SPIKEFORMER,
        "imagenet/spikeformer.py",
        (2, "T", 3, 64, 64),
        _spikeformer(),
    ),
    Published(
        "Spikeformer (2022), events",
        _SPIKEFORMER,
        "dvscifar10/spikeformer.py",
        EVENTS_64,
        _spikeformer(n_input_channels=2),
    ),
    Published(
        "SLTNet, event segmentation",
        "xiaxinZhu/SLTNet",
        "model/SLTNet.py",
        (2, 5, 64, 96),
        stepped(lambda module, T: module.SLTNet(classes=6)),
        (1,),
    ),
    Published(
        "SpikingResformer, faces",
        "hukaiems/SpikingResformer_FaceRecognition",
        "models/spikingresformer.py",
        (2, 3, 64, 64),
        triplet,
    ),
    Published(
        "SDformerFlow, optical flow",
        "yitian97/SDformerFlow",
        "models/STSwinNet_SNN/Spiking_STSwinNet.py",
        (2, 10, 2, 64, 64),
        stepped(flow),
        (5,),
    ),
    Published(
        "S-CMRL's Spikformer",
        _CROSS_MODAL,
        _AUDIO_VISUAL,
        EVENTS_64,
        called(
            "Spikformer",
            "step",
            img_size_h=64,
            img_size_w=64,
            in_channels=2,
            embed_dims=64,
            num_heads=4,
            num_classes=10,
            depths=2,
        ),
    ),
    Published(
        "STAtten, measured",
        "MarcoCrisafulli5/STAtten",
        "model/spikeformer.py",
        IMAGE,
        habit("SpikeDrivenTransformer", pooling_stat="0011", attn_mode="STAtten"),
        (4,),
    ),
)
