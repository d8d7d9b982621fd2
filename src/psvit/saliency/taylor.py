"""Squared first-order Taylor expansion, through the surrogate gradients of spikes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from psvit.capture.copying import private_copy
from psvit.capture.running import Watcher, run_batch, settled
from psvit.cost.macs import batch_axis, batch_size
from psvit.cost.spikes import is_neuron
from psvit.errors import ModelError
from psvit.outputs import log_probabilities
from psvit.records import Graph, Groups, IntArray, Scores
from psvit.saliency.calibration import Calibration
from psvit.saliency.reads import Table, channel_table, find_reads


def taylor(graph: Graph, groups: Groups, calibration: Calibration) -> Scores:
    """``s_c = mean over images of (d log p(y) / d m_c) ** 2``, at ``m = 1``.

    ``m_c`` is a gate that multiplies channel c wherever it is read (in one of two operands, if
    they meet in a product). So the derivative is the sum over readers, steps and positions of
    activation times gradient, and ``s_c`` the squared first-order estimate of what removing the
    channel changes: Molchanov et al., "Pruning Convolutional Neural Networks for Resource
    Efficient Inference" (ICLR 2017, arXiv 1611.06440), section 2.2, on gates and squared as in
    their "Importance Estimation for Neural Network Pruning" (CVPR 2019, arXiv 1906.10771),
    section 3. It is squared image by image, as in the Fisher pruning of Theis et al., "Faster gaze
    prediction with dense networks and Fisher pruning" (arXiv 1801.05787). No label is looked at:
    the class ``y`` of each image is drawn from the model's own softmax, so that ``s_c`` estimates
    the diagonal of the Fisher information of the gates, and half of it the KL divergence to second
    order. Spikes pass gradients as their neurons' surrogates say.

    Scores of all groups are comparable. Each image takes a forward and a backward pass of its own
    over T steps; memory is that of one image. Returns ``{group id: [C] float64}``. Raises
    ModelError for a neuron that passes no gradient on.
    """
    table = channel_table(groups)
    own = replace(graph, module=private_copy(graph.module).requires_grad_(False))
    watch = _Gated(own, table, torch.device(calibration.device))
    generator = np.random.default_rng(calibration.seed)
    total, n, copies = torch.zeros(table.size, dtype=torch.float64), 0, None
    with settled(own, torch.device(calibration.device), calibration.seed), torch.enable_grad():
        for inputs in _one_by_one(graph, calibration):
            if copies is None:
                copies = _copies(own, watch, inputs)
            total += watch.slope(_repeated(inputs, copies, batch_axis(graph)), generator) ** 2
            n += 1
    watch.check()
    return table.split(total / n)


class _Gated(Watcher):
    """Runs the forward with a gate of 1 on every channel that is read."""

    def __init__(self, graph: Graph, table: Table, device: torch.device) -> None:
        super().__init__(graph)
        self._graph, self._table, self._device = graph, table, device
        self._sites = _sites(graph, table)
        self._gates = torch.ones(table.size, dtype=torch.float64, device=device)
        self._active = np.zeros(table.size, dtype=bool)
        self._slopes = torch.zeros(table.size, dtype=torch.float64)
        self._lost: dict[str, None] = {}
        self._deaf: list[nn.Module] = []
        self._arrives: dict[str, bool] = {}
        self._passes: dict[str, bool] = {}

    def slope(self, inputs: Sequence[torch.Tensor], generator: np.random.Generator) -> torch.Tensor:
        """``d log p(y) / d m``, ``[channels]``, of one image, which may be there several times."""
        self._gates = torch.ones_like(self._gates, requires_grad=True)
        batch = inputs[0].shape[batch_axis(self._graph)]
        output = run_batch(self._graph, self, inputs)
        if self._deaf:
            for layer in self._deaf:
                layer.train()
            self._deaf, self._lost = [], {}
            output = run_batch(self._graph, self, inputs)
        logs = log_probabilities(output, batch)
        chosen = _drawn(logs[0].detach(), generator.random())
        if not logs.requires_grad:
            raise ModelError(self._without_gradient())
        try:
            (slope,) = torch.autograd.grad(logs[:, chosen].mean(), self._gates)
        except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
            raise ModelError(
                "the backward pass of the model fails, so saliency 'taylor' cannot be computed: "
                f"{(str(error).strip() or type(error).__name__).splitlines()[0]}; "
                "use another saliency, such as rate"
            ) from error
        slope = slope.detach().cpu()
        self._slopes += slope.abs()
        return slope

    def run_node(self, n: fx.Node) -> Any:
        before: dict[fx.Node, Any] = {}
        for source, rows in self._sites.get(n, ()):
            x = self.env[source]
            if isinstance(x, torch.Tensor) and x.is_floating_point():
                before.setdefault(source, x)
                self.env[source] = self._gated(x, rows)
        watched = self._watched_input(n)
        if watched is not None:
            before.setdefault(watched, self.env[watched])
            self.env[watched] = _noted(self.env[watched], self._passes, str(n.target))
        needed = any(_needs_grad(self.env.get(source)) for source in n.all_input_nodes)
        try:
            out = super().run_node(n)
        finally:
            self.env.update(before)
        if needed and isinstance(out, torch.Tensor) and not out.requires_grad:
            self._note_lost(n)
        elif watched is not None and isinstance(out, torch.Tensor) and bool(out.any()):
            out = _noted(out, self._arrives, str(n.target))
        return out

    def _note_lost(self, node: fx.Node) -> None:
        """Some neurons have their surrogates in train mode only; all else stays in eval mode."""
        if node.op == "call_module":
            layer = self.module.get_submodule(str(node.target))
            normed = any(isinstance(part, _BatchNorm) for part in layer.modules())
            if is_neuron(layer) and not layer.training and not normed:
                self._deaf.append(layer)
        if "detach" not in node.name:
            self._lost[node.name] = None

    def _gated(self, x: torch.Tensor, rows: IntArray) -> torch.Tensor:
        read = rows >= 0
        used = [d for d, size in enumerate(rows.shape) if size == 1 and x.shape[d] > 1]
        fires = (x.detach() != 0).any(used, keepdim=True) if used else x.detach() != 0
        self._active[rows[read & fires.cpu().numpy()]] = True
        place = torch.from_numpy(np.where(read, rows, 0)).to(self._device)
        gate = torch.where(
            torch.from_numpy(read).to(self._device), self._gates[place], torch.ones(())
        )
        return x.clone() * gate.to(x.dtype)  # cloned, as a later operation may write into it

    def _watched_input(self, node: fx.Node) -> fx.Node | None:
        """What a neuron layer takes in, if a gradient is to pass there."""
        if node.op != "call_module":
            return None
        if not is_neuron(self.module.get_submodule(str(node.target))):
            return None
        source = node.all_input_nodes[0]
        return source if _needs_grad(self.env.get(source)) else None

    def check(self) -> None:
        """Raises ModelError where gradients arrived and none ever passed."""
        for name, arrived in self._arrives.items():
            if arrived and not self._passes.get(name, False):
                raise ModelError(
                    f"neuron layer {name} passes no gradient back, so saliency 'taylor' sees no "
                    "channel before it: give it a surrogate gradient, or use another saliency, "
                    "such as rate"
                )
        if not self._lost:
            return
        active = self._table.split(torch.from_numpy(self._active))
        slopes = self._table.split(self._slopes)
        for group in self._table.groups.prunable:
            if bool(active[group.id].any()) and not bool(slopes[group.id].any()):
                raise ModelError(f"{self._without_gradient()} (group {group.name})")

    def _without_gradient(self) -> str:
        where = ", ".join(list(self._lost)[:3])
        return (
            "no gradient gets through the model, so saliency 'taylor' cannot be computed: "
            f"{where or 'its output'} has none; give its neurons surrogate gradients that work in "
            "eval mode, or use another saliency, such as rate"
        )


def _sites(graph: Graph, table: Table) -> dict[fx.Node, list[tuple[fx.Node, IntArray]]]:
    """Reader -> the operands to gate and where; a channel in the first that holds it."""
    sites: dict[fx.Node, list[tuple[fx.Node, IntArray]]] = {}
    for read in find_reads(graph, table):
        done: IntArray = np.zeros(0, dtype=np.int64)
        for operand in read.operands:
            if isinstance(operand.source, fx.Node):
                for rows in operand.rows:
                    left = np.where(np.isin(rows, done), -1, rows)
                    if (left >= 0).any():
                        sites.setdefault(read.node, []).append((operand.source, left))
                done = np.union1d(done, operand.channels)
    return sites


def _one_by_one(graph: Graph, calibration: Calibration) -> Iterator[tuple[torch.Tensor, ...]]:
    """Each image as a batch of its own: gates then know of one image alone."""
    axis = batch_axis(graph)
    for inputs in calibration.inputs(len(graph.inputs), axis):
        yield from zip(*(torch.split(x, 1, axis) for x in inputs), strict=True)


def _copies(graph: Graph, watch: _Gated, inputs: Sequence[torch.Tensor]) -> int:
    """How often an image has to be there: once, unless the model does not take a batch of one."""
    recorded, axis = batch_size(graph), batch_axis(graph)
    with torch.no_grad():
        many = run_batch(graph, watch, _repeated(inputs, recorded, axis))
        wanted = log_probabilities(many, recorded)[:1]
        try:
            alone = log_probabilities(run_batch(graph, watch, inputs), 1)
        except ModelError:
            return recorded
    return 1 if bool((alone - wanted).abs().max() <= 0.5) else recorded


def _repeated(inputs: Sequence[torch.Tensor], copies: int, axis: int) -> tuple[torch.Tensor, ...]:
    return tuple(x.repeat_interleave(copies, axis) if copies > 1 else x for x in inputs)


def _drawn(logs: torch.Tensor, uniform: float) -> int:
    """The class of which the cumulative probability first exceeds ``uniform``."""
    above = (logs.exp().cumsum(0) > uniform).nonzero()
    return int(above[0]) if len(above) else len(logs) - 1


def _needs_grad(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.requires_grad


def _noted(x: torch.Tensor, noted: dict[str, bool], name: str) -> torch.Tensor:
    """``x``; ``noted[name]`` becomes whether a gradient other than 0 ever came to it."""
    if not x.requires_grad:
        return x

    def look(gradient: torch.Tensor) -> None:
        noted[name] = noted.get(name, False) or bool(gradient.any())

    edge = x.view_as(x)
    edge.register_hook(look)  # type: ignore[no-untyped-call]
    return edge
