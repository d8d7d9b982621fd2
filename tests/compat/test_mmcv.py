"""The few OpenMMLab builders that backbones are written with."""

from __future__ import annotations

import pytest
from torch import nn

from psvit.compat import import_file, legacy_imports, mmcv
from psvit.errors import ModelError
from tests.compat.conftest import Write


def test_norm_layer() -> None:
    name, layer = mmcv.build_norm_layer({"type": "BN", "eps": 1e-3, "requires_grad": False}, 7, 2)
    assert name == "bn2"
    assert isinstance(layer, nn.BatchNorm2d)
    assert (layer.num_features, layer.eps) == (7, 1e-3)
    assert not layer.weight.requires_grad


def test_convolution_and_activation() -> None:
    conv = mmcv.build_conv_layer(None, 3, 4, kernel_size=3)
    assert isinstance(conv, nn.Conv2d)
    assert conv.weight.shape == (4, 3, 3, 3)
    activation = mmcv.build_activation_layer({"type": "LeakyReLU", "negative_slope": 0.2})
    assert isinstance(activation, nn.LeakyReLU)
    assert activation.negative_slope == 0.2


def test_an_unknown_type_is_named() -> None:
    with pytest.raises(ModelError, match=r"norm 'SNorm' is missing.*has BN, .*; install mmcv"):
        mmcv.build_norm_layer({"type": "SNorm"}, 3)


def test_a_backbone_file_loads(repository: Write) -> None:
    root = repository(
        "backbone",
        {
            "model.py": """
            from mmcv.cnn import ConvModule, build_norm_layer
            from mmcv.runner import BaseModule, load_checkpoint
            from mmengine.registry import MODELS

            @MODELS.register_module()
            class Backbone(BaseModule):
                def __init__(self, dim=4, init_cfg=None):
                    super().__init__(init_cfg)
                    self.norm = build_norm_layer(dict(type='SyncBN'), dim)[1]

            class WithConv(BaseModule):
                def __init__(self):
                    super().__init__()
                    self.conv = ConvModule(3, 4, 1)
            """
        },
    )
    with legacy_imports(root):
        module = import_file(root / "model.py")
    assert sorted(module.Backbone().state_dict()) == [
        "norm.bias",
        "norm.num_batches_tracked",
        "norm.running_mean",
        "norm.running_var",
        "norm.weight",
    ]
    with pytest.raises(ModelError, match=r"mmcv\.cnn\.ConvModule is used by the model"):
        module.WithConv()
