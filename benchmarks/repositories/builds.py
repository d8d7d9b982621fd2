"""How the models of the catalogue are built: small, and with nothing of their code changed.

Sizes are small so that every group can be checked in float64.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

from torch import nn

from benchmarks.repositories.published import Build


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


def triplet(module: Any, T: int) -> nn.Module:
    """SpikingResformer with an embedding of faces in place of its classes."""
    model: nn.Module = module.SpikingResformerTriplet(
        [["DSSA", "GWFFN"]] * 3,
        [16, 48, 96],
        [1, 3, 6],
        [4, 2, 1],
        img_size=64,
        T=T,
        embedding_dim=24,
        group_size=16,
    )
    return model


def flow(module: Any, T: int) -> nn.Module:
    """SDformerFlow, by the keys of its configs/train_MDR_supervised_SDformerFlow.yml."""
    network = {
        "name": "MS_SpikingformerFlowNet",
        "encoding": "voxel",
        "norm_input": "minmax",
        "num_bins": 2 * T,
        "base_num_channels": 24,
        "kernel_size": 3,
        "activations": ["relu", None],
        "final_activation": None,
        "mask_output": True,
        "norm": None,
        "use_upsample_conv": False,
        "spiking_neuron": {
            "num_steps": T,
            "v_th": 0.1,
            "v_reset": None,
            "neuron_type": "psn",
            "surrogate_fun": "surrogate.ATan()",
            "tau": 2.0,
            "detach_reset": True,
            "spike_norm": "BN",
        },
    }
    transformer = {
        "use_arc": ["swinv1", "MS_PED_Spiking_PatchEmbed_Conv_sfn"],
        "swin_depths": [2, 2, 2],
        "swin_num_heads": [3, 6, 12],
        "swin_out_indices": [0, 1, 2],
        "swin_patch_size": [1, 1, 2, 2],
        "window_size": [2, 4, 4],
        "pretrained_window_size": [0, 0, 0],
        "mlp_ratio": 4,
        "input_size": [64, 64],
    }
    model: nn.Module = module.MS_SpikingformerFlowNet(network, transformer)
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


def spike_vit(module: Any, T: int) -> nn.Module:
    """SpikeViT (a MobileFormer with spikes) with two blocks; it takes configuration objects."""
    block = {
        "IN_CHANNELS": [16, 24],
        "HIDDEN_CHANNELS": [32, 48],
        "OUT_CHANNELS": [24, 32],
        "MLP_RATIO": [2, 2],
        "STRIDE": [2, 2],
        "KERNEL_SIZE": [3, 3],
        "PADDING": [1, 1],
    }
    stem = {
        "OUT_CHANNELS": 16,
        "HIDDEN_CHANNELS": 24,
        "STRIDE": 2,
        "KERNEL_SIZE": 3,
        "PADDING": 1,
    }
    config = SimpleNamespace(
        TOKENS=[6, 48],
        STEM=SimpleNamespace(**stem),
        BLOCK=SimpleNamespace(**block),
        CHANNEL_CONV=SimpleNamespace(OUT_CHANNELS=64),
    )
    arguments = SimpleNamespace(T=T, heads=4, classes=10)
    model: nn.Module = module.create_spike_vit(config, arguments)
    return model


def elastic(module: Any, T: int) -> nn.Module:
    """Elastic Spikformer with one width to choose from: the choice is drawn at each forward."""
    build = habit(
        "Spikformer",
        size=64,
        in_channels=2,
        embed_dims=64,
        patch_size=16,
        num_granularities=1,
        use_xisps=True,
        sps_alpha=0.5,
    )
    return build(module, T)


def stepped(build: Build) -> Build:
    """SpikingJelly's layers work on [T, B, ...] only after they are told."""

    def built(module: Any, T: int) -> nn.Module:
        from spikingjelly.activation_based import functional

        model = build(module, T)
        functional.set_step_mode(model, "m")
        return model

    return built
