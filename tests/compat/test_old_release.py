"""The old neurons and surrogates beside SpikingJelly 0.0.0.0.12 itself, bit for bit.

The release is not among what tests install: two of SpikingJelly cannot live side by side. With
PSVIT_ORIGINALS set to a folder that has it unpacked (``pip download --no-deps
spikingjelly==0.0.0.0.12``, then ``unzip -d spikingjelly-0.0.0.0.12`` the wheel), these tests run.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import warnings
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from psvit.compat import clock_driven

PLACE = os.environ.get("PSVIT_ORIGINALS")
FOLDER = "spikingjelly-0.0.0.0.12/spikingjelly"
NAME = "spikingjelly_of_2022"


@pytest.fixture(scope="module")
def release() -> Any:
    """The release, imported under a name of its own."""
    folder = Path(PLACE or "", FOLDER)
    if not PLACE or not folder.is_dir():
        pytest.skip(f"no {FOLDER}: set PSVIT_ORIGINALS to a folder that holds it")
    spec = importlib.util.spec_from_file_location(
        NAME, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # backslashes in its docstrings
        spec.loader.exec_module(module)
        for name in ("neuron", "surrogate"):
            part(name)
    yield module
    for name in [n for n in sys.modules if n.partition(".")[0] == NAME]:
        del sys.modules[name]


def part(name: str) -> Any:
    return importlib.import_module(f"{NAME}.clock_driven.{name}")


def ran(neuron: Any, x: Tensor, multi: bool) -> list[Tensor]:
    """Spikes, last voltage, and the gradients of a sum of both by the input and by weights."""
    x = x.clone().requires_grad_()
    spikes = neuron(x) if multi else torch.stack([neuron(step) for step in x])
    weights = torch.arange(1, 1 + spikes.numel(), dtype=x.dtype).reshape(spikes.shape)
    ((spikes * weights).sum() + neuron.v.sum()).backward()
    assert x.grad is not None
    learned = [p.grad for p in neuron.parameters() if p.grad is not None]
    return [spikes.detach(), neuron.v.detach(), x.grad, *learned]


KINDS = ("IFNode", "LIFNode", "ParametricLIFNode")
RESETS = (0.0, None, -0.5, 0.25)
DTYPES = (torch.float32, torch.float64)


@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])
@pytest.mark.parametrize("multi", [False, True], ids=["single", "multi"])
@pytest.mark.parametrize("kind", KINDS)
def test_neurons_give_the_same_bits(release: Any, kind: str, multi: bool, dtype: Any) -> None:
    old, new = part("neuron"), clock_driven.build("neuron")
    name = f"MultiStep{kind}" if multi else kind
    generator = torch.Generator().manual_seed(0)
    fired = 0.0
    for v_reset, detach, threshold, decay, tau in product(
        RESETS, (False, True), (1.0, 0.5), (False, True), (2.0, 1.5, 3.7)
    ):
        arguments = {"v_threshold": threshold, "v_reset": v_reset, "detach_reset": detach}
        if kind != "IFNode":
            arguments |= {"decay_input": decay, "init_tau" if "Para" in kind else "tau": tau}
        elif decay or tau != 2.0:
            continue
        x = torch.randn((6, 2, 5), generator=generator, dtype=dtype) * 1.5 + 0.5
        before, after = (
            ran(getattr(module, name)(**arguments).to(dtype), x, multi) for module in (old, new)
        )
        fired += float(before[0].mean())
        assert len(before) == len(after)
        for expected, got in zip(before, after, strict=True):
            assert torch.equal(expected, got), (arguments, expected, got)
    assert fired > 0


@pytest.mark.parametrize(
    "name",
    ["PiecewiseQuadratic", "PiecewiseExp", "Sigmoid", "SoftSign", "ATan", "NonzeroSignLogAbs",
     "Erf", "PiecewiseLeakyReLU", "SquarewaveFourierSeries", "S2NN", "QPseudoSpike"],
)  # fmt: skip
def test_surrogates_give_the_same_spikes_and_gradients(release: Any, name: str) -> None:
    old, new = part("surrogate"), clock_driven.build("surrogate")
    x = torch.linspace(-3, 3, 121, dtype=torch.float64)
    results = []
    for module in (old, new):
        at = x.clone().requires_grad_()
        out = getattr(module, name)()(at)
        out.sum().backward()
        assert at.grad is not None
        results.append((out.detach(), at.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert (results[0][1] - results[1][1]).abs().max() <= 1e-12
    assert results[0][1].abs().max() > 0
