"""Attention by torch's own kernel, with shared k/v heads, and the spiking kinds without softmax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from spikingjelly.activation_based import layer
from torch import Tensor, nn

from tests.zoo.attention import QKV, STREAM, Split, heads_of, merged
from tests.zoo.case import Case, images
from tests.zoo.parts import DIM, HEAD_DIM, HEADS, OnSteps, OnTokens, OnTokenSteps, lif


def sdpa(**kwargs: Any) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """torch's kernel: softmax over tokens, scaled by the old head size."""
    return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, **kwargs)


def sdpa_masked(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """With a mask over tokens that is the same for all heads."""
    mask = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril(2)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=0.0)


class SdpaWide(nn.Module):
    """v has another width than q and k."""

    def __init__(self, dim: int = DIM, heads: int = HEADS) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k = nn.Linear(dim, 4 * heads), nn.Linear(dim, 4 * heads)
        self.v, self.proj = nn.Linear(dim, 10 * heads), nn.Linear(10 * heads, dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (heads_of(fc(x), self.heads) for fc in (self.q, self.k, self.v))
        return self.proj(merged(F.scaled_dot_product_attention(q, k, v)))


class MultiQuery(nn.Module):
    """``groups`` heads of k and v serve all heads of q; ``share`` says how they are handed out."""

    def __init__(self, groups: int, share: str, heads: int = 6, size: int = 4) -> None:
        super().__init__()
        self.heads, self.groups, self.share, self.size = heads, groups, share, size
        self.q = nn.Linear(DIM, heads * size)
        self.k, self.v = nn.Linear(DIM, groups * size), nn.Linear(DIM, groups * size)
        self.q_lif, self.k_lif, self.v_lif = lif(), lif(), lif()
        self.proj = nn.Linear(heads * size, DIM)

    def handed_out(self, x: Tensor) -> Tensor:
        times = self.heads // self.groups
        if self.share == "repeat_interleave":
            return x.repeat_interleave(times, dim=1)
        if self.share == "expand":
            b, g, n, d = x.shape
            return x[:, :, None].expand(b, g, times, n, d).reshape(b, g * times, n, d)
        return x

    def forward(self, x: Tensor) -> Tensor:
        q = heads_of(self.q_lif(self.q(x)), self.heads)
        k = self.handed_out(heads_of(self.k_lif(self.k(x)), self.groups))
        v = self.handed_out(heads_of(self.v_lif(self.v(x)), self.groups))
        if self.share == "sdpa":
            return self.proj(merged(F.scaled_dot_product_attention(q, k, v)))
        return self.proj(merged(q @ k.mT * 0.25 @ v))


class SpikeDriven(nn.Module):
    """Spike-driven attention on [T, B, C, H, W]: k * v summed over tokens gates q."""

    def __init__(self, *, talking: bool, dim: int = DIM, heads: int = HEADS) -> None:
        super().__init__()
        self.heads = heads
        for name in ("q", "k", "v"):
            conv = layer.Conv2d(dim, dim, 1, bias=False, step_mode="m")
            setattr(self, f"{name}_conv", conv)
            setattr(self, f"{name}_bn", layer.BatchNorm2d(dim, step_mode="m"))
            setattr(self, f"{name}_lif", lif("m"))
        self.talking = nn.Conv1d(heads, heads, 1) if talking else None
        self.spare = nn.Conv1d(heads, heads, 1)  # made and never used, as published
        self.kv_lif = lif("m", v_threshold=0.5)
        self.proj_conv = layer.Conv2d(dim, dim, 1, step_mode="m")
        self.proj_bn = layer.BatchNorm2d(dim, step_mode="m")

    def branch(self, name: str, x: Tensor) -> Tensor:
        t, b, c, h, w = x.shape
        y = getattr(self, f"{name}_lif")(getattr(self, f"{name}_bn")(self.conv(name)(x)))
        y = y.flatten(3).transpose(-1, -2).reshape(t, b, h * w, self.heads, c // self.heads)
        return y.permute(0, 1, 3, 2, 4).contiguous()

    def conv(self, name: str) -> nn.Module:
        module: nn.Module = getattr(self, f"{name}_conv")
        return module

    def forward(self, x: Tensor) -> Tensor:
        t, b, c, h, w = x.shape
        q, k, v = (self.branch(name, x) for name in "qkv")
        kv = k.mul(v).sum(dim=-2, keepdim=True)
        if self.talking is not None:
            t_b, d = t * b, c // self.heads
            kv = self.talking(kv.reshape(t_b, self.heads, d)).reshape(t, b, self.heads, 1, d)
        y = q.mul(self.kv_lif(kv))
        y = y.transpose(3, 4).reshape(t, b, c, h, w).contiguous()
        return self.proj_bn(self.proj_conv(y)) + x


class QueryKey(nn.Module):
    """QKFormer: q summed over channels (token) or tokens (channel) fires, and gates k."""

    def __init__(self, kind: str, dim: int = DIM, heads: int = HEADS) -> None:
        super().__init__()
        self.heads, self.axis = heads, {"token": 3, "channel": 4}[kind]
        self.q = layer.SeqToANNContainer(nn.Conv1d(dim, dim, 1), nn.BatchNorm1d(dim))
        self.k = layer.SeqToANNContainer(nn.Conv1d(dim, dim, 1), nn.BatchNorm1d(dim))
        self.proj = layer.SeqToANNContainer(nn.Conv1d(dim, dim, 1), nn.BatchNorm1d(dim))
        self.q_lif, self.k_lif, self.attn_lif, self.proj_lif = (lif("m") for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(2, 3)
        t, b, c, n = x.shape
        q = self.q_lif(self.q(x)).reshape(t, b, self.heads, c // self.heads, n)
        k = self.k_lif(self.k(x)).reshape(t, b, self.heads, c // self.heads, n)
        attn = self.attn_lif(torch.sum(q, dim=self.axis, keepdim=True))
        x = torch.mul(attn, k).flatten(2, 3)
        return self.proj_lif(self.proj(x)).transpose(2, 3)


class Inverted(Split):
    """1 - spikes, before a product of q and k: a removed channel is ones, not zeros.

    ``both``: q and k are inverted. With only q inverted the zeros of k save the day.
    """

    def __init__(self, *, both: bool) -> None:
        super().__init__(lambda q, k, v: q @ k.mT @ v)
        self.both = both

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.q_lif(self.q(x)), self.k_lif(self.k(x)), self.v_lif(self.v(x))
        q, k = 1 - q, (1 - k if self.both else k)
        q, k, v = (heads_of(t, self.heads) for t in (q, k, v))
        return self.proj(merged(self.attend(q, k, v)))


class Restless(Split):
    """Neurons that fire at rest (v_reset above the threshold), before a product of q and k."""

    def __init__(self) -> None:
        super().__init__(lambda q, k, v: q @ k.mT @ v)
        self.q_lif, self.k_lif = (lif(v_reset=1.02, v_threshold=1.0) for _ in range(2))
        self.q_lif.fixed_threshold = self.k_lif.fixed_threshold = True


class RestlessSum(nn.Module):
    """Channels that are not zero when removed, and are summed all the same."""

    def __init__(self, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.fc, self.activation, self.v = nn.Linear(DIM, DIM), activation, nn.Linear(DIM, DIM)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.activation(self.fc(x)).sum(-1, keepdim=True)
        return self.v(x) * gate


STEPS = ("stem.weight:0", "body.proj_conv.weight:0", "body.proj_conv.weight:1")
DRIVEN = (*(f"body.{n}_conv.weight:0" for n in "qkv"), "body.k_bn.weight:0", *STEPS)
QK = ("body.q.0.weight:0", "body.k.0.weight:0", "body.proj.0.weight:1", "stem.0.weight:0")
NONZERO = {
    "body.q.weight:0": "a removed channel of q and k is not zero where they meet",
    "body.k.weight:0": "a removed channel of q and k is not zero where they meet",
}


def multi_query(groups: int, share: str) -> Case:
    """Multi-query (one group) or grouped-query attention."""
    return Case(lambda: OnTokens(MultiQuery(groups, share)), images(), (*QKV, *STREAM))


CASES = {
    "sdpa": Case(lambda: OnTokens(Split(sdpa())), images(), (*QKV, *STREAM), heads=HEADS),
    "sdpa_causal": Case(
        lambda: OnTokens(Split(sdpa(is_causal=True))), images(), (*QKV, *STREAM), heads=HEADS
    ),
    "sdpa_scale": Case(
        lambda: OnTokens(Split(sdpa(scale=0.3))), images(), (*QKV, *STREAM), heads=HEADS
    ),
    "sdpa_masked": Case(
        lambda: OnTokens(Split(sdpa_masked)), images(), (*QKV, *STREAM), heads=HEADS
    ),
    "sdpa_wide": Case(lambda: OnTokens(SdpaWide()), images(), (*QKV, *STREAM), heads=HEADS),
    "multi_query": multi_query(1, "broadcast"),
    "multi_query_sdpa": multi_query(1, "sdpa"),
    "grouped_query_expand": multi_query(2, "expand"),
    "grouped_query_repeat": multi_query(2, "repeat_interleave"),
    "spike_driven_t1": Case(
        lambda: OnSteps(SpikeDriven(talking=False), 1), images(), DRIVEN, heads=HEADS
    ),
    "spike_driven_t4": Case(
        lambda: OnSteps(SpikeDriven(talking=False), 4), images(), DRIVEN, heads=HEADS
    ),
    "spike_driven_talking": Case(
        lambda: OnSteps(SpikeDriven(talking=True), 4), images(), ("body.q_conv.weight:0", *STEPS)
    ),
    "query_key_token_t1": Case(
        lambda: OnTokenSteps(QueryKey("token"), 1), images(), QK, heads=HEADS
    ),
    "query_key_token_t4": Case(
        lambda: OnTokenSteps(QueryKey("token"), 4), images(), QK, heads=HEADS
    ),
    "query_key_channel_t4": Case(
        lambda: OnTokenSteps(QueryKey("channel"), 4), images(), QK, heads=HEADS
    ),
    "inverted_q": Case(
        lambda: OnTokens(Inverted(both=False)), images(), ("body.v.weight:0", *STREAM)
    ),
    "inverted_q_and_k": Case(
        lambda: OnTokens(Inverted(both=True)), images(), ("body.v.weight:0", *STREAM), NONZERO
    ),
    "restless_q_and_k": Case(
        lambda: OnTokens(Restless()), images(), ("body.v.weight:0", *STREAM), NONZERO
    ),
    "restless_sum_sigmoid": Case(
        lambda: OnTokens(RestlessSum(torch.sigmoid)),
        images(),
        ("stem.weight:0", "body.v.weight:0"),
        {"body.fc.weight:0": "sigmoid(0) is 0.5, and all channels are summed"},
    ),
    "restless_sum_exp": Case(
        lambda: OnTokens(RestlessSum(torch.exp)),
        images(),
        ("stem.weight:0", "body.v.weight:0"),
        {"body.fc.weight:0": "exp(0) is 1, and all channels are summed"},
    ),
    "restless_sum_cos": Case(
        lambda: OnTokens(RestlessSum(torch.cos)),
        images(),
        ("stem.weight:0", "body.v.weight:0"),
        {"body.fc.weight:0": "cos(0) is 1, and all channels are summed"},
    ),
}
assert HEAD_DIM != HEADS
