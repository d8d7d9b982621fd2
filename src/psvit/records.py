"""The data that the stages hand to one another: frozen, validated, with units in the names.

    capture -> Graph -> find_groups -> Groups -> saliency -> Scores
            -> allocate -> Plan -> rewrite -> nn.Module

Vocabulary. A *channel* is what lives or dies as one: every index, in every tensor, that has to
go with it. A *group* is the channels that occupy the same slots. A *slot* is one axis of one
parameter or buffer. A *cell* is a set of channels of a group from which the same number must be
removed as from every other cell (one cell a head, say). Groups with the same *tie* give up the
same number a cell. A *lane* is an element of a slot before channels are known.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from psvit.errors import PlanError

Dim = int | Literal["in"]
"""An axis of a tensor, or "in": the kept inputs, group by group, of a grouped convolution."""

Mode = Literal["eval", "train"]
IntArray = NDArray[np.int64]

PLAN_VERSION = 1


@dataclass(frozen=True)
class InputSpec:
    """Shape and dtype of one example input, e.g. ``[B, C, H, W]`` and ``float32``."""

    shape: tuple[int, ...]
    dtype: str = "float32"

    def zeros(self, batch: int | None = None) -> torch.Tensor:
        """A tensor of this shape, with another batch size if one is given."""
        shape = self.shape if batch is None else (batch, *self.shape[1:])
        return torch.zeros(shape, dtype=getattr(torch, self.dtype))


@dataclass(frozen=True, eq=False)
class Graph:
    """What a model computes: a private copy of its module tree and its recorded forwards.

    Nodes of a forward carry ``meta["shape"]`` (sizes at the example) or, for integers read from
    a shape, ``meta["value"]``. Layers and neurons are ``call_module`` nodes under their original
    names. ``fixed`` says, in words, which sizes the recording could not keep dynamic.
    """

    module: nn.Module
    forwards: Mapping[Mode, fx.Graph]
    inputs: tuple[InputSpec, ...]
    fixed: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Slot:
    """One axis of one tensor, and where each channel of a group lies on it.

    ``index[c, j]`` is the j-th position of channel ``c``: a fused qkv weight, say, holds the
    channel of q and the channel of k that meet in the attention, so two positions.
    """

    tensor: str
    dim: Dim
    index: IntArray


@dataclass(frozen=True, eq=False)
class Group:
    """Channels that occupy the same slots; see the module docstring.

    ``locked`` is None for a group that can be pruned, else the reason in plain words.
    ``channels`` are the channel ids, unique over the whole model.
    """

    id: int
    name: str
    role: str
    channels: IntArray
    slots: tuple[Slot, ...]
    cells: tuple[tuple[int, ...], ...]
    tie: int
    locked: str | None = None

    @property
    def size(self) -> int:
        """Number of channels."""
        return len(self.channels)


@dataclass(frozen=True)
class Head:
    """An attention head: the channels, by group id, that have to go together."""

    name: str
    channels: Mapping[int, tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class Field:
    """Which lane each element of a tensor belongs to, along the axes where that varies.

    ``lanes`` has the rank of the tensor, size 1 on every axis that it does not vary on.
    ``along`` is the axis on which removal thins the tensor out; on its other varying axes only
    whole slices can go. ``rest``: what each element of a removed lane holds in a model whose
    removed parameters are zeroed; None where that is not known. ``block``: lanes are whole heads,
    not channels.
    """

    lanes: IntArray
    along: int
    rest: float | tuple[float, ...] | None = 0.0
    block: bool = False

    @property
    def varying(self) -> frozenset[int]:
        """The axes on which the lanes differ."""
        return frozenset(d for d, s in enumerate(self.lanes.shape) if s > 1)


@dataclass(frozen=True, eq=False)
class Labels:
    """The fields of every tensor of every forward, and the channel of every lane.

    ``fields[mode][node name]`` is a list of fields, or, for a node that returns several
    tensors, a list of such lists. ``channel_of[lane]`` is the channel's id.
    ``members[block lane]`` are the lanes of which a block consists. ``slots`` are the lanes of
    each axis of each tensor, ``aliases`` the further names of shared tensors. ``divisors`` are
    parameters that something is divided by. ``rectangles``: the distinct sets of fields with
    slices (heads, groups), which must stay equally wide in every plan.
    """

    fields: Mapping[Mode, Mapping[str, Any]]
    channel_of: IntArray
    members: Mapping[int, tuple[int, ...]]
    slots: Mapping[tuple[str, Dim], IntArray]
    rectangles: tuple[tuple[Field, ...], ...] = ()
    divisors: frozenset[str] = frozenset()
    aliases: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Groups(Sequence[Group]):
    """Every group of a graph (locked ones too), the heads, and the labels behind them."""

    items: tuple[Group, ...]
    heads: tuple[Head, ...]
    labels: Labels
    unknown: tuple[str, ...] = ()
    """Operations without a rule: kept on evidence, or the reason of a lock. Never skipped."""

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> Any:
        return self.items[index]

    def __iter__(self) -> Iterator[Group]:
        return iter(self.items)

    @property
    def prunable(self) -> tuple[Group, ...]:
        """The groups that can give up at least one channel a cell."""
        return tuple(g for g in self.items if g.locked is None and len(g.cells[0]) > 1)


Removal = Mapping[int, Sequence[int]]
"""Group id -> the channels (indices into ``Group.channels``) that are to go."""

Scores = Mapping[int, torch.Tensor]
"""Group id -> saliency of each channel, ``[C]``, higher is more important."""


@dataclass(frozen=True)
class Width:
    """A group's number of channels before and after."""

    name: str
    role: str
    before: int
    after: int


@dataclass(frozen=True)
class Source:
    """How to build the original model again: a factory and its arguments."""

    factory: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """Which indices of which tensors stay. Data only: JSON, printable, comparable.

    ``keep[tensor][dim]`` lists the kept indices, ascending, for every tensor that is sliced;
    dims are strings ("0", "1", ...). For a grouped convolution whose groups keep different
    inputs, "in" lists the kept input channels of the whole layer and takes the place of "1".
    """

    keep: Mapping[str, Mapping[str, tuple[int, ...]]]
    widths: tuple[Width, ...]
    fingerprint: str
    inputs: tuple[InputSpec, ...]
    source: Source | None = None

    def __post_init__(self) -> None:
        frozen = {
            name: MappingProxyType({dim: tuple(kept) for dim, kept in dims.items()})
            for name, dims in sorted(self.keep.items())
        }
        object.__setattr__(self, "keep", MappingProxyType(frozen))

    def to_json(self) -> str:
        """The plan as JSON text; ``Plan.from_json`` reads it back equal."""
        data = {
            "psvit_plan": PLAN_VERSION,
            "fingerprint": self.fingerprint,
            "inputs": [{"shape": list(i.shape), "dtype": i.dtype} for i in self.inputs],
            "source": None
            if self.source is None
            else {"factory": self.source.factory, "arguments": dict(self.source.arguments)},
            "groups": [vars(w) for w in self.widths],
            "keep": {n: {d: list(k) for d, k in dims.items()} for n, dims in self.keep.items()},
        }
        return json.dumps(data, indent=1)

    @staticmethod
    def from_json(text: str) -> Plan:
        """Read a plan. Raises PlanError for text that is not a plan of a version known here."""
        try:
            data = json.loads(text)
            version = data["psvit_plan"]
            if version != PLAN_VERSION:
                raise PlanError(
                    f"plan.json has version {version!r}, this psvit reads version {PLAN_VERSION}: "
                    "install the psvit that wrote it, or prune again"
                )
            source = data["source"]
            return Plan(
                keep={
                    str(n): {str(d): tuple(_index(i) for i in k) for d, k in dims.items()}
                    for n, dims in data["keep"].items()
                },
                widths=tuple(
                    Width(str(w["name"]), str(w["role"]), _index(w["before"]), _index(w["after"]))
                    for w in data["groups"]
                ),
                fingerprint=str(data["fingerprint"]),
                inputs=tuple(
                    InputSpec(tuple(_index(s) for s in i["shape"]), str(i["dtype"]))
                    for i in data["inputs"]
                ),
                source=None
                if source is None
                else Source(str(source["factory"]), dict(source["arguments"])),
            )
        except PlanError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PlanError(
                f"plan.json is not a psvit plan ({type(error).__name__}: {error}): "
                "expected the file that `psvit prune` wrote, unedited"
            ) from error


def _index(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"expected a whole number of 0 or more, got {value!r}")
    return value


@dataclass(frozen=True)
class Figures:
    """What a model costs and how well it does. None: not measured.

    ``memory_bytes``: parameters and buffers. ``macs``: multiply-accumulates of one image over
    all T steps, as if dense. ``sops``: accumulates of one image that spikes really trigger, and
    ``energy_pj`` the energy of one image by the convention of the field (``psvit.cost.energy``).
    ``accuracy``: top-1 in [0, 1] over ``n`` images, with a 95 % Wilson interval; ``top5`` likewise.
    """

    memory_bytes: int
    params: int
    macs: int
    accuracy: float | None = None
    accuracy_low: float | None = None
    accuracy_high: float | None = None
    n: int | None = None
    sops: float | None = None
    energy_pj: float | None = None
    latency_ms: float | None = None
    top5: float | None = None
    top5_low: float | None = None
    top5_high: float | None = None


@dataclass(frozen=True)
class Point:
    """What pruning one tie of groups alone, by one ratio, costs and saves.

    ``tie``: the groups that give up channels together (``Group.tie``). ``removed``: channels gone
    from each cell, at the ratio ``ratio`` of the cell. ``kl``: mean KL divergence of the pruned
    model's class probabilities from the dense model's, in nats an image, over ``n`` images, with
    its 95 % interval. ``accuracy_drop``: dense minus pruned top-1, in [-1, 1], paired on the same
    images, with its interval; None without labels. ``rate_drift``: mean absolute change of the
    firing rates of neurons. ``potential_drift``: mean absolute change of their inputs' mean.
    ``saved``: unit (memory, params, macs, sops, energy, latency) -> absolute figure that is saved.
    """

    tie: int
    ratio: float
    removed: int
    n: int
    kl: float
    kl_low: float
    kl_high: float
    accuracy_drop: float | None
    accuracy_drop_low: float | None
    accuracy_drop_high: float | None
    rate_drift: float
    potential_drift: float
    saved: Mapping[str, float]


@dataclass(frozen=True)
class Curves:
    """A sensitivity analysis: points by tie and rising ratio, and what they were measured on.

    ``fingerprint`` is the graph's. ``settings``: data, n, seed, saliency, grid, as JSON.
    ``names``: tie -> readable name. ``dense``: figures of the unpruned model on the same images.
    """

    fingerprint: str
    settings: Mapping[str, Any]
    names: Mapping[int, str]
    dense: Figures
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Step:
    """What a plan would save, unit -> fraction, and leave: channels of each group, in order."""

    saved: Mapping[str, float]
    widths: tuple[int, ...]


@dataclass(frozen=True)
class BudgetPath:
    """Plans by rising saving, and which channels each takes.

    ``order[group][channel]``: how many channels of its cell go before this one; empty for a
    group of which none can go.
    """

    steps: tuple[Step, ...]
    order: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class Result:
    """A pruned model, the plan that made it, and the figures before and after.

    ``measured``: plain data that metrics.json tells besides, such as firing rates by layer.
    ``curves``: the sensitivity analysis that guided the plan. ``path``: what other budgets would
    have taken. ``control``: the unpruned model after the same recovery, which a fair comparison
    needs, and ``dense_recovered`` its figures.
    """

    model: nn.Module
    plan: Plan
    groups: Groups
    before: Figures
    after: Figures
    settings: Mapping[str, Any] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)
    curves: Curves | None = None
    path: BudgetPath | None = None
    control: nn.Module | None = None
    dense_recovered: Figures | None = None

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from psvit.report.notebook import result_html  # people's text is not the records' business

        return result_html(self)
