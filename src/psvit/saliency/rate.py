"""How often a channel fires, times how strongly it is read."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from psvit.capture.running import Watcher, run_batch, settled
from psvit.cost.macs import batch_axis, nodes_from_input
from psvit.records import Graph, Groups, IntArray, Scores
from psvit.saliency.calibration import Calibration
from psvit.saliency.reads import Operand, Read, Table, channel_table, find_reads


def rate(graph: Graph, groups: Groups, calibration: Calibration) -> Scores:
    """``s_c = sum over readers j of c: r_jc ||W_j[:, c]||_2``: what a channel's spikes can move.

    ``r_jc``: mean absolute value of channel c where reader j takes it in, over images, steps and
    positions; of spikes that is the firing rate. ``W_j[:, c]``: the reader's weights for it. Of a
    product of two activations (q and k that meet in attention) both means are multiplied. It is
    the norm of weights times activations of Sun et al., "A Simple and Effective Pruning Approach
    for Large Language Models" (Wanda, arXiv 2306.11695), section 3, with the L1 norm of spikes in
    place of their L2 norm and whole channels in place of weights.

    A channel that never fires scores exactly 0: on the calibration images its removal changes
    nothing. Scores of groups that are read by layers are comparable. One pass without gradients;
    what is kept is one number a channel and reader. Returns ``{group id: [C] float64}``.
    """
    table = channel_table(groups)
    axis, count = batch_axis(graph), len(graph.inputs)
    watch = _Watch(graph, table)
    with settled(graph, torch.device(calibration.device), calibration.seed):
        for inputs in calibration.inputs(count, axis):
            run_batch(graph, watch, inputs)
        return table.split(watch.scores())


def never_fired(groups: Groups, scores: Scores) -> int:
    """How many channels of groups that can be pruned have the score 0 by ``rate``."""
    return sum(int((scores[group.id] == 0).sum()) for group in groups.prunable)


class _Watch(Watcher):
    """Sums the magnitudes of what is read. ``_sums[read][operand]`` is ``[channels]``."""

    def __init__(self, graph: Graph, table: Table) -> None:
        super().__init__(graph)
        self._reads = {read.node: read for read in find_reads(graph, table)}
        self._active = nodes_from_input(graph)
        self._size = table.size
        self._sums: dict[tuple[Read, int], torch.Tensor] = {}
        self._counts: dict[tuple[Read, int], torch.Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        read = self._reads.get(n)
        for position, operand in enumerate(read.operands if read is not None else ()):
            assert read is not None
            self._look(read, position, operand)
        return super().run_node(n)

    def _look(self, read: Read, position: int, operand: Operand) -> None:
        key = (read, position)
        active = operand.source in self._active
        if key in self._sums and not active:
            return  # parameters are the same in each batch
        x = self._value(operand)
        x = x.abs() if active else x.double().square()
        sums = torch.zeros(self._size, dtype=torch.float64)
        counts = torch.zeros(self._size, dtype=torch.float64)
        for rows in operand.rows:
            total, each = _along(x, rows)
            place = torch.from_numpy(rows).flatten()
            read_here = place >= 0
            sums.index_add_(0, place[read_here], total[read_here])
            counts.index_add_(0, place[read_here], torch.full_like(total[read_here], each))
        self._sums[key] = self._sums.get(key, 0.0) + sums
        self._counts[key] = self._counts.get(key, 0.0) + counts

    def _value(self, operand: Operand) -> torch.Tensor:
        if isinstance(operand.source, fx.Node):
            value: torch.Tensor = self.env[operand.source]
            return value
        weight = self.module.get_parameter(operand.source)
        rows = operand.rows[0]
        if rows.ndim > weight.ndim:  # a grouped convolution's, see Operand
            return weight.reshape(rows.shape[0], -1, *weight.shape[1:])
        return weight

    def scores(self) -> torch.Tensor:
        """``[channels]``, float64."""
        total = torch.zeros(self._size, dtype=torch.float64)
        for read in self._reads.values():
            here = torch.zeros(self._size, dtype=torch.float64)
            channels = torch.zeros(self._size, dtype=torch.bool)
            for operand in read.operands:
                if operand.source in self._active:
                    channels[torch.from_numpy(operand.channels)] = True
            here[channels] = 1.0
            for position, operand in enumerate(read.operands):
                factor = self._factor(read, position, operand)
                taken = torch.from_numpy(operand.channels)
                here[taken] *= factor[taken]
            total += here
        return total

    def _factor(self, read: Read, position: int, operand: Operand) -> torch.Tensor:
        sums = self._sums[read, position]
        if operand.source in self._active:
            return sums / self._counts[read, position].clamp(min=1)
        return sums.sqrt()


def _along(x: torch.Tensor, rows: IntArray) -> tuple[torch.Tensor, int]:
    """``x`` summed to the shape of ``rows``, flat, and how many values went into each sum."""
    axes = [d for d in range(x.ndim) if rows.shape[d] == 1 and x.shape[d] > 1]
    total = x.sum(axes, keepdim=True, dtype=torch.float64) if axes else x.double()
    return total.expand(rows.shape).flatten().cpu(), max(x.numel() // rows.size, 1)
