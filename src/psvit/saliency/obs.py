"""Second-order saliency: what a layer's outputs lose when channels go and the others make up.

For a weight W whose inputs have the (centred) covariance C, removing the columns J costs

    tr W_J [(H^-1)_JJ]^-1 W_J^T        with H = C + l I

in squared error of its outputs if all remaining weights are refitted to it (optimal brain
surgery, Hassibi and Stork 1993, eq. 5; for layer outputs Frantar and Alistarh 2022, "Optimal
Brain Compression", eq. 3). Spikes are 0 or 1, so C counts which channels fire together: one that
fires with others costs little. Columns J are one channel's: all kernel positions, all places.

Channels are taken greedily, the cheapest first; after each the weights and H^-1 are updated as if
it were gone, so that of two channels that replace each other only one is cheap. What is ours:
whole channels, costs summed over every operation that reads the channel (a residual stream) with
rows in units of the batch norm's output, and cells (heads) that give up equally many by taking
only from those that have lost least. The increments of a prefix add up to the least-squares
error of removing it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from psvit.calibrate import Compensator, Consumer, Part, calibrate
from psvit.records import Graph, Group, Groups, Scores
from psvit.saliency.calibration import Calibration
from psvit.saliency.weights import Weights

LAZY = 128
"""Columns that go before the large matrices are brought up to date: one product of that width is
many times faster than as many thin ones (as in SparseGPT, Frantar and Alistarh 2023, section 3)."""


def obs(graph: Graph, groups: Groups, calibration: Calibration) -> Scores:
    """Scores by ``obs_scores``, from one pass over the calibration images.

    Raises as ``psvit.calibrate.collect`` does.
    """
    images = list(calibration.inputs(len(graph.inputs)))
    seed, device = calibration.seed, calibration.device
    return obs_scores(calibrate(graph, groups, images, seed=seed, device=device))


def obs_scores(dense: Compensator) -> Scores:
    """``{group id: [C] float64}``: rank channels by greedy optimal brain surgery.

    A channel's score is what its cell (head) has cost when it goes, itself included, so it rises
    in the order of going; channels that never fire cost exactly 0. Channels that no weight reads,
    only a product (q and k), cost what ``psvit.calibrate.products`` says, with nothing to make up
    for them. A group that neither reads is ranked by the L2 norm of its filters. Scores of groups
    that weights read are comparable.
    """
    weights = Weights(dense.graph)
    return {group.id: _scores(dense, weights, group) for group in dense.groups}


def _scores(dense: Compensator, weights: Weights, group: Group) -> torch.Tensor:
    pieces = list(_pieces(dense, group))
    shared = dense.moments.products.get(group.id)
    if pieces:
        return _greedy(group, pieces)
    if shared is not None and len(shared) == group.size:
        return _greedy(group, [_Uncompensated(shared.clone())])
    return weights.mean_norm(weights.producers(group), group, power=2)


@dataclass(eq=False)
class _Piece:
    """Columns of one operation. ``channels`` ``[n]``, each with k columns that lie together.

    ``gram`` ``[n k, n k]``: W^T W; ``inverse``: H^-1 among these columns. Both are brought up to
    date now and then only: since then they have lost ``y d + (y d)^T`` and ``p d``, of which
    single rows are cheap. What costs take are the diagonal blocks, ``[n, k, k]``, always current.
    """

    channels: torch.Tensor
    k: int
    gram: torch.Tensor
    inverse: torch.Tensor
    _p: torch.Tensor = field(init=False)
    _y: torch.Tensor = field(init=False)
    _d: torch.Tensor = field(init=False)
    _alive: torch.Tensor = field(init=False)

    def __post_init__(self) -> None:
        self._gram_blocks = self._blocks(self.gram)
        self._inverse_blocks = self._blocks(self.inverse)
        self._forget()

    def costs(self, size: int) -> torch.Tensor:
        """``[size]``: what each channel of the group costs now."""
        solved = torch.linalg.solve(self._inverse_blocks, self._gram_blocks)
        costs = solved.diagonal(dim1=1, dim2=2).sum(1)  # tr G_JJ [(H^-1)_JJ]^-1
        total = torch.zeros(size, dtype=torch.float64)
        return total.index_add_(0, self.channels, costs.clamp(min=0))

    def remove(self, channel: int) -> None:
        """Update weights and H^-1 as if the channel were gone, and leave it out."""
        at = (self.channels == channel).nonzero().flatten()
        if not len(at):
            return
        n, k = len(self.channels), self.k
        j = slice(int(at) * k, (int(at) + 1) * k)
        inverse = self.inverse[j] - self._p[j] @ self._d  # [k, n k]
        gram = self.gram[:, j] - self._y @ self._d[:, j] - self._d.T @ self._y[j].T  # [n k, k]
        down = torch.linalg.solve(inverse[:, j], inverse)
        # G <- G - G_:J D - (G_:J D)^T + D^T G_JJ D, the last term shared by both others
        y = gram - down.T @ gram[j] / 2
        by_channel = down.reshape(k, n, k).transpose(0, 1)
        moved = y.reshape(n, k, k) @ by_channel
        self._gram_blocks -= moved + moved.transpose(1, 2)
        self._inverse_blocks -= inverse.T.reshape(n, k, k) @ by_channel
        self._gram_blocks[at] = 0
        self._inverse_blocks[at] = torch.eye(k, dtype=torch.float64)
        self._p = torch.cat([self._p, inverse.T], 1)
        self._y = torch.cat([self._y, y], 1)
        self._d = torch.cat([self._d, down])
        self._alive[at] = False
        if len(self._d) >= LAZY:
            self._catch_up()

    def _catch_up(self) -> None:
        """Bring the matrices up to date, without the channels that are gone."""
        moved = self._y @ self._d
        self.gram -= moved
        self.gram -= moved.T
        self.inverse -= self._p @ self._d
        columns = self._alive.repeat_interleave(self.k)
        self.gram = self.gram[columns][:, columns]
        self.inverse = self.inverse[columns][:, columns]
        self.channels = self.channels[self._alive]
        self._gram_blocks = self._gram_blocks[self._alive]
        self._inverse_blocks = self._inverse_blocks[self._alive]
        self._forget()

    def _forget(self) -> None:
        width = len(self.gram)
        self._p = torch.zeros(width, 0, dtype=torch.float64)
        self._y = torch.zeros(width, 0, dtype=torch.float64)
        self._d = torch.zeros(0, width, dtype=torch.float64)
        self._alive = torch.ones(len(self.channels), dtype=torch.bool)

    def _blocks(self, matrix: torch.Tensor) -> torch.Tensor:
        n, k = len(self.channels), self.k
        blocks = matrix.reshape(n, k, n, k).diagonal(dim1=0, dim2=2)
        return blocks.permute(2, 0, 1).clone()


@dataclass(eq=False)
class _Uncompensated:
    """Channels of products: ``shared`` is S; ``gone`` is what those removed have in common."""

    shared: torch.Tensor
    gone: torch.Tensor | None = None

    def costs(self, size: int) -> torch.Tensor:
        """S_cc and twice what c shares with each that is gone."""
        alone = self.shared.diagonal()
        return alone if self.gone is None else (alone + 2 * self.gone).clamp(min=0)

    def remove(self, channel: int) -> None:
        """What is gone goes on counting."""
        row = self.shared[channel]
        self.gone = row.clone() if self.gone is None else self.gone + row


def _pieces(dense: Compensator, group: Group) -> Iterator[_Piece]:
    """The operations that read channels of the group and could do with fewer."""
    tensors = dict(dense.graph.module.named_parameters())
    for consumer in dense.consumers:
        parts = dense.moments.parts.get(consumer.weight, ())
        if not parts or group.id not in consumer.groups_read:
            continue
        groups, taps = consumer.geometry.groups, consumer.geometry.taps
        mine = np.where(consumer.group == group.id, consumer.channel, -1)
        owner = torch.from_numpy(mine).repeat_interleave(taps).reshape(groups, -1)
        weight = (
            tensors[consumer.weight].detach().double().cpu().reshape(groups, -1, owner.shape[1])
        )
        weight = weight * _gain(dense.graph.module, consumer).reshape(groups, -1, 1)
        for part in (part.to("cpu") for part in parts):  # many small steps follow
            for g in range(groups):
                piece = _piece(consumer, part, g, owner[g], weight[g], dense.ridge)
                if piece is not None:
                    yield piece


def _piece(
    consumer: Consumer, part: Part, g: int, owner: torch.Tensor, weight: torch.Tensor, ridge: float
) -> _Piece | None:
    owner, weight = owner[part.columns], weight[:, part.columns]
    mine = (owner >= 0).nonzero().flatten()
    if not len(mine):
        return None
    h = part.covariance(g, centred=consumer.absorbs).clone()
    # an input that never changes is made up for by the constant
    silent = h.diagonal() <= 1e-12 * part.second[g].diagonal()
    scale = h.diagonal().mean()
    h.diagonal().add_(ridge * scale if bool(scale > 0) else 1.0)
    inverse = torch.linalg.inv(h)
    weight = torch.where(silent, 0.0, weight)
    channels, row, counts = torch.unique(owner[mine], return_inverse=True, return_counts=True)
    order = torch.argsort(row, stable=True)
    k = int(counts.max())
    # the i-th column of channel n lies at n k + i; a channel with fewer than k leaves gaps
    within = torch.arange(len(order)) - (counts.cumsum(0) - counts)[row[order]]
    place = row[order] * k + within
    gram = torch.zeros(len(channels) * k, len(channels) * k, dtype=torch.float64)
    filled = torch.eye(len(gram), dtype=torch.float64)
    columns = mine[order]
    gram[place[:, None], place] = weight[:, columns].T @ weight[:, columns]
    filled[place[:, None], place] = inverse[columns[:, None], columns]
    return _Piece(channels, k, gram, (filled + filled.T) / 2)


def _gain(module: nn.Module, consumer: Consumer) -> torch.Tensor:
    """``[G * O]``: what the batch norm that follows multiplies each output by."""
    outputs = module.get_parameter(consumer.weight).shape[0]
    if consumer.norm is None:
        return torch.ones(outputs, dtype=torch.float64)
    norm = module.get_submodule(consumer.norm)
    assert isinstance(norm, _BatchNorm)
    assert norm.running_var is not None  # else it would not absorb
    gain = (norm.running_var.double() + norm.eps).rsqrt()
    return (gain * norm.weight.detach().double() if norm.affine else gain).cpu()


def _greedy(group: Group, pieces: list[_Piece] | list[_Uncompensated]) -> torch.Tensor:
    """The scores; see ``obs_scores``."""
    cell = torch.zeros(group.size, dtype=torch.int64)
    for index, members in enumerate(group.cells):
        cell[list(members)] = index
    lost = torch.zeros(len(group.cells), dtype=torch.int64)
    left = torch.ones(group.size, dtype=torch.bool)
    spent = torch.zeros(len(group.cells), dtype=torch.float64)
    scores = torch.zeros(group.size, dtype=torch.float64)
    while bool(left.any()):
        costs = torch.stack([piece.costs(group.size) for piece in pieces]).sum(0)
        least = lost[torch.unique(cell[left])].min()
        costs[~left | (lost[cell] > least)] = float("inf")
        channel = int(costs.argmin())
        here = cell[channel]
        before = spent[here].clone()
        spent[here] += costs[channel]
        if spent[here] == before and before > 0:
            # keep the order even where a cost is lost in rounding
            spent[here] = torch.nextafter(before, torch.tensor(torch.inf, dtype=torch.float64))
        scores[channel] = spent[here]
        left[channel] = False
        lost[here] += 1
        for piece in pieces:
            piece.remove(channel)
    return scores
