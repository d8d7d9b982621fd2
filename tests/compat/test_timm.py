"""The timm stand-ins compute what timm computes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from psvit.compat import timm_layers as layers
from psvit.compat.timm_transformer import Attention, Block, default_cfg


def test_drop_path_is_the_identity_in_eval_mode() -> None:
    x = torch.rand(4, 3, 2)
    assert torch.equal(layers.DropPath(0.9).eval()(x), x)
    assert torch.equal(layers.DropPath(0.0)(x), x)
    assert torch.equal(layers.DropPath(None)(x), x)


@pytest.mark.parametrize(("scale", "kept"), [(True, 2.0), (False, 1.0)])
def test_drop_path_drops_whole_samples_and_keeps_the_mean(scale: bool, kept: float) -> None:
    torch.manual_seed(0)
    y = layers.DropPath(0.5, scale_by_keep=scale)(torch.ones(400, 3, 2))
    per_sample = y.flatten(1)
    assert torch.equal(per_sample.amin(1), per_sample.amax(1))
    assert sorted(per_sample.unique().tolist()) == [0.0, kept]
    assert abs(float((per_sample[:, 0] > 0).float().mean()) - 0.5) < 0.1


@pytest.mark.parametrize(
    ("n", "value", "expected"), [(2, 3, (3, 3)), (2, (3, 4), (3, 4)), (4, 1, (1, 1, 1, 1))]
)
def test_to_ntuple(n: int, value: object, expected: tuple[int, ...]) -> None:
    assert layers.to_ntuple(n)(value) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    # 8 is below 90 % of 11, so up to 16; never below min_value
    [((32,), 32), ((33,), 32), ((11,), 16), ((3,), 8), ((3, 8, 24), 24), ((100, 32), 96)],
)
def test_make_divisible(arguments: tuple[int, ...], expected: int) -> None:
    assert layers.make_divisible(*arguments) == expected


def test_trunc_normal_is_cut_off_at_absolute_values() -> None:
    torch.manual_seed(0)
    w = layers.trunc_normal_(torch.empty(20000), std=1.0, a=-1.0, b=0.5)
    assert -1.0 <= float(w.min()) < -0.95
    assert 0.45 < float(w.max()) <= 0.5
    w = layers.trunc_normal_(torch.empty(20000), std=0.02)
    assert abs(float(w.std()) - 0.02) < 1e-3


def test_trunc_normal_tf_is_cut_off_at_standard_deviations() -> None:
    torch.manual_seed(0)
    w = layers.trunc_normal_tf_(torch.empty(20000), mean=1.0, std=0.1)
    assert 0.8 <= float(w.min()) < 0.81
    assert 1.19 < float(w.max()) <= 1.2


def test_lecun_normal_has_the_variance_of_its_fan_in() -> None:
    torch.manual_seed(0)
    w = layers.lecun_normal_(torch.empty(300, 100))
    assert abs(float(w.std()) - 0.1) < 2e-3


def test_mlp() -> None:
    mlp = layers.Mlp(4, 6, 5, act_layer=nn.ReLU).eval()
    x = torch.rand(2, 3, 4)
    assert list(mlp.state_dict()) == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
    assert torch.equal(mlp(x), mlp.fc2(torch.relu(mlp.fc1(x))))
    assert mlp(x).shape == (2, 3, 5)


def test_patch_embed_makes_one_token_a_patch() -> None:
    embed = layers.PatchEmbed(img_size=8, patch_size=4, in_chans=3, embed_dim=5)
    x = torch.rand(2, 3, 8, 8)
    assert embed.num_patches == 4
    tokens = embed(x)
    assert tokens.shape == (2, 4, 5)
    # the second token is the patch to the right of the first
    patch = (embed.proj.weight * x[0, :, :4, 4:]).sum((1, 2, 3)) + embed.proj.bias
    assert torch.allclose(tokens[0, 1], patch, atol=1e-6)


def test_scaled_std_conv_standardises_its_filters() -> None:
    conv = layers.ScaledStdConv2d(3, 4, 3, bias=False).double()
    with torch.no_grad():
        conv.gain.uniform_(0.5, 1.5)
        w = conv.weight
        mean = w.mean((1, 2, 3), keepdim=True)
        var = w.var((1, 2, 3), keepdim=True, unbiased=False)
        standard = (w - mean) / (var + 1e-6).sqrt() * conv.gain * 27**-0.5
        x = torch.rand(2, 3, 5, 5, dtype=torch.float64)
        expected = torch.nn.functional.conv2d(x, standard, padding=1)
        assert (conv(x) - expected).abs().max() <= 1e-12
    assert sorted(conv.state_dict()) == ["gain", "weight"]


def test_attention_is_softmax_attention() -> None:
    torch.manual_seed(0)
    attention = Attention(6, num_heads=2).double().eval()
    x = torch.rand(2, 5, 6, dtype=torch.float64)
    q, k, v = attention.qkv(x).chunk(3, dim=-1)
    heads = []
    for h in range(2):
        part = slice(3 * h, 3 * h + 3)
        scores = torch.einsum("bnd,bmd->bnm", q[..., part], k[..., part]) / 3**0.5
        heads.append(scores.softmax(-1) @ v[..., part])
    assert (attention(x) - attention.proj(torch.cat(heads, -1))).abs().max() <= 1e-12


def test_block_adds_attention_and_mlp_to_the_stream() -> None:
    torch.manual_seed(0)
    block = Block(6, 2, mlp_ratio=2.0, drop_path=0.3).eval()
    x = torch.rand(2, 5, 6)
    y = x + block.attn(block.norm1(x))
    assert torch.equal(block(x), y + block.mlp(block.norm2(y)))
    assert block.mlp.fc1.out_features == 12


def test_default_cfg_takes_overrides() -> None:
    cfg = default_cfg(url="u", num_classes=10)
    assert (cfg["url"], cfg["num_classes"], cfg["input_size"]) == ("u", 10, (3, 224, 224))
