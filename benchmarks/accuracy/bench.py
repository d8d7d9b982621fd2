"""A trained model with its images on a device, and how results are judged there."""

from __future__ import annotations

import argparse
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

import psvit
from psvit.artefacts.checkpoint import load_weights
from psvit.bench.timing import quartiles, times_in_turns
from psvit.calibrate import Compensator, calibrate
from psvit.capture.copying import private_copy
from psvit.cost import Meter, observe, prepare
from psvit.data import RECIPES, Split, open_data
from psvit.evaluate import right_images
from psvit.guidance import CHECKED, Guidance, Guide, find_guidance
from psvit.models.load import load_model
from psvit.neurons import reset_state
from psvit.records import Graph, Groups, Plan, Scores
from psvit.recover import Origin, calibration_images
from psvit.recover import recover as run_recovery
from psvit.saliency import obs_scores
from psvit.saliency import saliency as score
from psvit.train.neuron import fast_neurons

Batch = tuple[torch.Tensor, torch.Tensor]

CALIBRATION = 1024
TIMED = 32
ANALYSIS = 256


@dataclass(frozen=True, eq=False)
class Bench:
    """``train``: batches that everything is chosen on; ``test``: those that results are read off.

    Those of ``test`` lie on ``device``. ``kept``: rankings, moments and analyses, each made once.
    """

    model: nn.Module
    graph: Graph
    groups: Groups
    train: list[Batch]
    test: list[Batch]
    meter: Meter
    device: torch.device
    seed: int
    kept: dict[str, Any] = field(default_factory=dict)

    @property
    def images(self) -> list[torch.Tensor]:
        """What recoveries look at."""
        return calibration_images(self.train, CALIBRATION)

    def moments(self) -> Compensator:
        """What every layer of the dense model reads."""
        if "moments" not in self.kept:
            self.kept["moments"] = calibrate(
                self.graph, self.groups, self.images, seed=self.seed, device=self.device
            )
        found: Compensator = self.kept["moments"]
        return found

    def ranking(self, name: str) -> Scores:
        """Channels by a saliency."""
        if name not in self.kept:
            self.kept[name] = (
                obs_scores(self.moments())
                if name == "obs"
                else score(self.graph, self.groups, name, self.seed)
            )
        found: Scores = self.kept[name]
        return found

    def guidance(self, saliency: str, *, matched: bool) -> Guidance:
        """The sensitivity analysis of this ranking: with compensation if it chooses for that.

        ``matched``: whole plans are measured with matched statistics. The analysis is made once.
        """
        name = f"guidance {saliency} {matched}"
        if name not in self.kept:
            other = self.kept.get(f"guidance {saliency} {not matched}")
            guide = Guide(
                self.train,
                None if other is None else other.curves,
                n=ANALYSIS,
                seed=self.seed,
                device=self.device,
                dense=self.moments() if saliency == "obs" else None,
                matched=matched,
                settings={"saliency": saliency},
            )
            start = time.perf_counter()
            self.kept[name] = find_guidance(
                guide,
                self.model,
                self.graph,
                self.groups,
                self.ranking(saliency),
                method="optimal",
                units=("memory",),
                bounded=False,
                say=lambda text: None,
            )
            self.kept.setdefault(f"analysis {saliency} seconds", time.perf_counter() - start)
        found: Guidance = self.kept[name]
        return found

    def recovered(self, model: nn.Module, how: str, plan: Plan | None) -> nn.Module:
        """The model, on the device, after a recovery; ``plan`` None: it is the dense one."""
        model = model.to(self.device)
        if how == "none":
            return model
        origin = None
        if plan is not None:
            dense = self.moments() if how == "obs" else None
            origin = Origin(self.graph, self.groups, plan, dense, self.device, self.seed)
        images = [batch.to(self.device) for batch in self.images]
        return run_recovery(model, images, how, origin)

    def right(self, model: nn.Module) -> torch.Tensor:
        """Which test images are right, bool ``[n]``."""
        model.to(self.device)
        # On a CPU the evaluation has faster neurons of its own, bit for bit the same.
        on_gpu = self.device.type == "cuda"
        with fast_neurons(model, compiled=True) if on_gpu else nullcontext():
            return right_images(model, self.test, device=self.device)

    def latencies(self, model: nn.Module) -> tuple[float, float]:
        """Milliseconds of a batch of ``TIMED`` images: dense and this model, in turns."""
        images = torch.cat([x for x, _ in self.test])[:TIMED]
        models = [self.model.to(self.device), model.to(self.device)]

        def forward(one: nn.Module) -> None:
            reset_state(one)
            one(images)

        with torch.no_grad():
            series = times_in_turns([partial(forward, m) for m in models], self.device, 0.0)
        for one in models:
            reset_state(one)
        dense, own = (quartiles(times)[1] for times in series)
        return dense, own

    def firing_rate(self, model: nn.Module) -> float:
        """Spikes by neuron and time step, over all neurons, on a batch of training images."""
        spikes, places = 0.0, 0

        def count(module: nn.Module, args: Any, out: Any) -> None:
            nonlocal spikes, places
            spikes += float((out != 0).sum())
            places += out.numel()

        hooks = [
            module.register_forward_hook(count)
            for module in model.modules()
            if hasattr(module, "v_threshold")
        ]
        try:
            reset_state(model)
            with torch.no_grad():
                model.to(self.device)(self.train[0][0].to(self.device))
        finally:
            reset_state(model)
            for hook in hooks:
                hook.remove()
        return spikes / max(places, 1)


def set_up(options: argparse.Namespace) -> Bench:
    """Load model and data as the command line says."""
    device = torch.device(options.device)
    recipe = RECIPES[options.recipe] if options.recipe else None
    model = load_model(options.model, weights=options.checkpoint is None).model.eval()
    if options.checkpoint is not None:
        load_weights(model, options.checkpoint)

    def batches(split: Split, limit: int | None, size: int) -> list[Batch]:
        spec = options.data if split == "train" else options.eval_data or options.data
        found = open_data(
            spec,
            workers=options.workers,
            split=split,
            recipe=recipe,
            limit=limit,
            batch_size=size,
            shuffle=split == "train",
            seed=options.seed,
            only=options.eval_data is not None,
        )
        return [(x, y) for x, y in found]

    train = batches("train", ANALYSIS + CHECKED, min(256, options.batch))
    test = [(x.to(device), y) for x, y in batches("eval", options.limit, options.batch)]
    graph = psvit.capture(model, train[0][0][:2])
    groups = psvit.find_groups(graph)
    activity = observe(graph, train[:1], groups, seed=options.seed, device=device)
    meter = prepare(graph, groups, activity)
    return Bench(private_copy(model), graph, groups, train, test, meter, device, options.seed)
