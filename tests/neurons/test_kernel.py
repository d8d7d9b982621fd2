"""The neurons in C: what they take, how they are compiled, and what happens where they cannot be.

That their spikes are those of the stock neuron is in ``test_fused.py``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from psvit.neurons import kernel as file
from psvit.neurons.fused import Dynamics, spikes_in_steps, spikes_on_cpu
from psvit.neurons.kernel import kernel, steps_in_c

LIF = Dynamics(1.0, 0.0, 2.0)
needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler is installed"
)


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, and nothing loaded before or after."""
    monkeypatch.setenv("PSVIT_CACHE", str(tmp_path))
    kernel.cache_clear()
    yield tmp_path / "kernels"
    kernel.cache_clear()


def images(*shape: int) -> torch.Tensor:
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(0))


@needs_compiler
@settings(max_examples=40, deadline=None)
@given(
    steps=st.integers(1, 5),
    count=st.sampled_from([1, 2, 7, 2047, 2048, 2049, 10_001]),
    soft=st.booleans(),
    tau=st.sampled_from([None, 2.0, 1.5]),
    threads=st.integers(1, 3),
    offset=st.integers(0, 3),
)
def test_no_block_or_thread_shows(steps, count, soft, tau, threads, offset) -> None:
    x = images(steps * count + offset)[offset:].view(steps, count)  # also where it is not aligned
    dynamics = Dynamics(0.8, None if soft else 0.0, tau)
    before, used = x.clone(), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        spikes = spikes_on_cpu(x, dynamics)
    finally:
        torch.set_num_threads(used)
    assert kernel() is not None
    assert torch.equal(spikes, spikes_in_steps(x, dynamics))
    assert torch.equal(x, before)


@needs_compiler
def test_it_takes_whole_time_steps_in_single_precision_alone() -> None:
    x = images(4, 6, 5)
    assert steps_in_c(x, LIF) is not None
    refused = {
        "double": x.double(),
        "steps side by side": x.permute(2, 1, 0),
        "gaps": images(4, 12, 5)[:, ::2],
        "gaps within a step": images(4, 6, 10)[..., :5],
        "one value for all": images(4, 1, 1).expand(4, 6, 5),
        "nothing": x[:, :0],
    }
    for name, given_ in refused.items():
        assert steps_in_c(given_, LIF) is None, name
        spikes = spikes_on_cpu(given_, LIF)
        assert torch.equal(spikes, spikes_in_steps(given_, LIF)), name


@needs_compiler
def test_nan_and_infinity_fire_as_they_did() -> None:
    x = images(4, 3000)
    x[1, ::3], x[2, ::5], x[0, ::7] = float("nan"), float("inf"), -float("inf")
    dynamics = LIF
    spikes = spikes_on_cpu(x, dynamics)
    assert steps_in_c(x, LIF) is not None
    assert torch.equal(spikes, spikes_in_steps(x, dynamics))


@needs_compiler
def test_it_is_compiled_once_and_leaves_one_file(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kernel() is not None
    names = [path.name for path in fresh.iterdir()]
    assert [name.endswith(".so") for name in names] == [True]
    kernel.cache_clear()
    monkeypatch.setattr(file, "_compile", lambda *_: pytest.fail("it was compiled again"))
    assert kernel() is not None


@pytest.mark.parametrize("what", ["none", "fails", "writes no library", "read-only"])
def test_without_it_the_spikes_are_the_same(
    what: str, fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own-cc"
    writes = 'for last; do :; done\necho no > "$last"\n'
    own.write_text("#!/bin/sh\n" + ("exit 1\n" if what == "fails" else writes))
    own.chmod(0o755)
    monkeypatch.setenv("CC", "no-such-compiler" if what == "none" else f"{own} -pipe")
    if what == "read-only":
        fresh.write_text("a file where the folder should be")
    x = images(4, 6, 5)
    assert kernel() is None
    assert steps_in_c(x, LIF) is None
    dynamics = LIF
    assert torch.equal(spikes_on_cpu(x, dynamics), spikes_in_steps(x, dynamics))
    if what in ("fails", "writes no library"):
        assert os.listdir(fresh) == []  # nothing for a later process to trip over
