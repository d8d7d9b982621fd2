"""Self-attention written in the ways that people write it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tests.zoo.case import Case, images
from tests.zoo.parts import DIM, HEAD_DIM, HEADS, TOKENS, OnTokens, OnTokenSteps, lif

QKV = ("body.q.weight:0", "body.k.weight:0", "body.v.weight:0", "body.proj.weight:1")
FUSED = ("body.qkv.weight:0", "body.qkv.bias:0", "body.proj.weight:1")
STREAM = ("stem.weight:0", "head.weight:1")


def heads_of(x: Tensor, heads: int) -> Tensor:
    """[B, N, C] -> [B, H, N, D]."""
    b, n, c = x.shape
    return x.reshape(b, n, heads, c // heads).permute(0, 2, 1, 3)


def merged(x: Tensor) -> Tensor:
    """[B, H, N, D] -> [B, N, H * D]."""
    return x.transpose(1, 2).flatten(2)


class FusedReshape(nn.Module):
    """qkv in one Linear, told apart by a reshape to [3, H, D]."""

    def __init__(self, dim: int = DIM, heads: int = HEADS) -> None:
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.qkv, self.lif = nn.Linear(dim, 3 * dim), lif()
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        qkv = self.lif(self.qkv(x)).reshape(b, n, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        x = (q @ k.transpose(-2, -1)) * self.scale @ v
        return self.proj(x.transpose(1, 2).reshape(b, n, c))


class FusedIndexed(FusedReshape):
    """The same, q, k and v taken by index."""

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        qkv = self.lif(self.qkv(x)).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        x = q @ (k.transpose(-2, -1) @ v) * self.scale
        return self.proj(merged(x))


class FusedChunk(nn.Module):
    """qkv in one Conv1d with BN on [B, C, N], told apart by chunk."""

    def __init__(self, dim: int = DIM, heads: int = HEADS) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.bn, self.lif = nn.Conv1d(dim, 3 * dim, 1), nn.BatchNorm1d(3 * dim), lif()
        self.attn_lif = lif(v_threshold=0.5)
        self.proj = nn.Conv1d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.lif(self.bn(self.qkv(x.transpose(1, 2)))).chunk(3, dim=1)
        q, k, v = (t.reshape(b, self.heads, c // self.heads, n) for t in (q, k, v))
        x = v @ (k.transpose(-2, -1) @ q) * 0.125
        return self.proj(self.attn_lif(x).reshape(b, c, n)).transpose(1, 2)


class FusedSplit(FusedReshape):
    """The same, told apart by split with a size that is kept in an attribute."""

    def __init__(self, dim: int = DIM, heads: int = HEADS) -> None:
        super().__init__(dim, heads)
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = torch.split(self.lif(self.qkv(x)), self.dim, dim=-1)
        q, k, v = (heads_of(t, self.heads) for t in (q, k, v))
        return self.proj(merged((q @ k.mT) @ v))


class FusedUnbind(FusedReshape):
    """Heads outermost, q, k and v innermost: [H, D, 3], told apart by unbind."""

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        qkv = self.lif(self.qkv(x)).view(b, n, self.heads, c // self.heads, 3)
        q, k, v = qkv.transpose(1, 2).unbind(-1)
        return self.proj(merged(q @ k.mT @ v))


class Split(nn.Module):
    """Three Linears; ``attend`` says how q, k, v [B, H, N, D] meet."""

    def __init__(
        self,
        attend: Callable[[Tensor, Tensor, Tensor], Tensor],
        dim: int = DIM,
        heads: int = HEADS,
    ) -> None:
        super().__init__()
        self.attend, self.heads = attend, heads
        self.q, self.k, self.v = (nn.Linear(dim, dim) for _ in range(3))
        self.q_lif, self.k_lif, self.v_lif = lif(), lif(), lif()
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        q = heads_of(self.q_lif(self.q(x)), self.heads)
        k = heads_of(self.k_lif(self.k(x)), self.heads)
        v = heads_of(self.v_lif(self.v(x)), self.heads)
        return self.proj(merged(self.attend(q, k, v)))


def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(q k^T) v."""
    return q @ k.transpose(-2, -1) * 0.25 @ v


def linear(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q (k^T v)."""
    return q @ (k.transpose(-2, -1) @ v) * 0.25


def softmax(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax over tokens; the scale is read from the very axis that shrinks."""
    return torch.softmax(q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5, dim=-1) @ v


def einsum_named(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Both products by einsum."""
    attention = torch.einsum("bhnd,bhmd->bhnm", q, k) * 0.25
    return torch.einsum("b h n m, b h m d -> b h n d", attention, v)


def einsum_ellipsis(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Both products by einsum with an ellipsis."""
    return torch.einsum("...nm,...md->...nd", torch.einsum("...nd,...md->...nm", q, k), v)


def bmm(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Heads merged into the batch, both products by bmm."""
    b, h, n, d = q.shape
    q, k, v = (t.reshape(b * h, n, d) for t in (q, k, v))
    return torch.bmm(torch.bmm(q, k.transpose(1, 2)), v).view(b, h, n, d)


def masked(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """A causal mask, by masked_fill before a softmax over tokens."""
    n = q.shape[-2]
    mask = torch.ones(n, n, dtype=torch.bool).tril()
    return (q @ k.mT).masked_fill(~mask, float("-inf")).softmax(-1) @ v


def biased(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """A fixed slope for each head (ALiBi): the head axis is fixed, the channels are not."""
    slopes = torch.tensor([0.5, 0.25, 0.125]).reshape(HEADS, 1, 1)
    return (q @ k.mT + slopes) @ v


class HeadScale(nn.Module):
    """A learnt scale for each head: it goes when its head goes."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(HEADS, 1, 1) + 0.5)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (q @ k.mT) * self.scale @ v


class HeadTable(nn.Module):
    """A learnt table of relative positions for each head [H, N, N]."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(HEADS, TOKENS, TOKENS))

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.softmax(q @ k.mT + self.table, -1) @ v


class TalkingHeads(nn.Module):
    """Attention maps of all heads are mixed: no head can go alone, channels inside heads can."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(HEADS, HEADS)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        attention = (q @ k.mT).permute(0, 2, 3, 1)
        return self.mix(attention).permute(0, 3, 1, 2) @ v


class MergedHeads(nn.Module):
    """q, k, v stacked or concatenated while they have heads, and taken apart again."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.lif = how, lif()

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if self.how == "stack":
            q, k, v = self.lif(torch.stack([q, k, v])).unbind(0)
        else:
            q, k, v = self.lif(torch.cat([q, k, v], dim=2)).chunk(3, dim=2)
        return q @ k.mT @ v


class Spikformer(nn.Module):
    """[T, B, N, C], T and B folded for the layers, reshaped back for the neurons."""

    def __init__(self, dim: int = DIM, heads: int = HEADS) -> None:
        super().__init__()
        self.dim, self.heads, self.scale = dim, heads, 0.125
        self.q, self.k, self.v = (nn.Linear(dim, dim) for _ in range(3))
        self.q_bn, self.k_bn, self.v_bn = (nn.BatchNorm1d(dim) for _ in range(3))
        self.q_lif, self.k_lif, self.v_lif = lif("m"), lif("m"), lif("m")
        self.attn_lif = lif("m", v_threshold=0.5)
        self.proj, self.proj_bn, self.proj_lif = nn.Linear(dim, dim), nn.BatchNorm1d(dim), lif("m")

    def branch(self, fc: nn.Module, bn: nn.Module, fire: nn.Module, x: Tensor) -> Tensor:
        t, b, n, c = x.shape
        y = bn(fc(x.flatten(0, 1)).transpose(-1, -2)).transpose(-1, -2)
        y = fire(y.reshape(t, b, n, c).contiguous())
        return y.reshape(t, b, n, self.heads, c // self.heads).permute(0, 1, 3, 2, 4).contiguous()

    def forward(self, x: Tensor) -> Tensor:
        t, b, n, c = x.shape
        q = self.branch(self.q, self.q_bn, self.q_lif, x)
        k = self.branch(self.k, self.k_bn, self.k_lif, x)
        v = self.branch(self.v, self.v_bn, self.v_lif, x)
        x = (q @ k.transpose(-2, -1)) @ v * self.scale
        x = self.attn_lif(x.transpose(2, 3).reshape(t, b, n, c).contiguous()).flatten(0, 1)
        x = self.proj_bn(self.proj(x).transpose(-1, -2)).transpose(-1, -2)
        return self.proj_lif(x.reshape(t, b, n, c))


class ScrambledMerge(Split):
    """Heads are merged along the wrong axes, as in some published code: [B, H, D, N] read as
    [B, N, C]. Each input of the projection sees many channels of v."""

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q = heads_of(self.q_lif(self.q(x)), self.heads)
        k = heads_of(self.k_lif(self.k(x)), self.heads)
        v = heads_of(self.v_lif(self.v(x)), self.heads)
        return self.proj(self.attend(q, k, v).transpose(2, 3).reshape(b, n, c))


class ScrambledView(Split):
    """q is read as [B, C, N] for its neuron, and read back: a scramble that undoes itself."""

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        h = self.heads
        q, k, v = (
            fire(fc(x).reshape(b, c, n)).reshape(b, n, h, c // h).transpose(1, 2)
            for fc, fire in ((self.q, self.q_lif), (self.k, self.k_lif), (self.v, self.v_lif))
        )
        return self.proj(merged(self.attend(q, k, v)))


def steps(count: int) -> Callable[[], nn.Module]:
    """The attention of Spikformer over ``count`` time steps."""
    return lambda: OnTokenSteps(Spikformer(), count)


def fused(kind: type[nn.Module]) -> Case:
    """A fused attention on a residual stream."""
    return Case(lambda: OnTokens(kind(), residual=True), images(), (*FUSED, *STREAM), heads=HEADS)


def split(attend: Callable[[], Callable[..., Tensor]], heads: int = HEADS) -> Case:
    """An attention with a Linear each for q, k and v."""
    return Case(lambda: OnTokens(Split(attend())), images(), (*QKV, *STREAM), heads=heads)


SPIKFORMER = (
    *QKV,
    "body.q_bn.weight:0",
    "body.v_bn.running_mean:0",
    "body.proj.weight:0",
    "stem.0.weight:0",
)

CASES = {
    "fused_reshape": fused(FusedReshape),
    "fused_indexed": fused(FusedIndexed),
    "fused_chunk": fused(FusedChunk),
    "fused_split": fused(FusedSplit),
    "fused_unbind": Case(lambda: OnTokens(FusedUnbind(), residual=True), images(), STREAM),
    "split_plain": split(lambda: plain),
    "split_linear": split(lambda: linear),
    "split_softmax": split(lambda: softmax),
    "split_einsum": split(lambda: einsum_named),
    "split_einsum_ellipsis": split(lambda: einsum_ellipsis),
    "split_bmm": split(lambda: bmm, heads=0),
    "split_masked": split(lambda: masked),
    "split_fixed_slopes": split(lambda: biased, heads=0),
    "split_head_scale": split(HeadScale),
    "split_head_table": split(HeadTable),
    "split_talking_heads": split(TalkingHeads, heads=0),
    "split_stacked": split(lambda: MergedHeads("stack")),
    "split_concatenated": split(lambda: MergedHeads("cat")),
    "spikformer_t1": Case(steps(1), images(), SPIKFORMER, heads=HEADS),
    "spikformer_t4": Case(steps(4), images(), SPIKFORMER, heads=HEADS),
    "scrambled_merge": Case(
        lambda: OnTokens(ScrambledMerge(plain)),
        images(),
        ("body.q.weight:0", "body.k.weight:0", *STREAM),
        {"body.v.weight:0": "each input of the projection mixes channels of v"},
    ),
    "scrambled_view": Case(
        lambda: OnTokens(ScrambledView(plain)), images(), (*QKV, *STREAM), heads=HEADS
    ),
}
assert HEADS * HEAD_DIM == DIM
