"""The neurons of ``steps.c``, compiled on this machine the first time that they are needed.

PyTorch's own operations take a call and a pass over memory for each step of each equation: on small
models the calls are half of a forward. One function in C does all T steps in one pass, and is
compiled in a second where there is a C compiler (``$CC``, cc, gcc or clang) with OpenMP. Where
there is none, ``steps_in_c`` returns None, and the neurons are computed without it, with the same
spikes. Instructions are chosen by what PyTorch says the CPU has. The library lies in the cache
folder (``psvit.places``) under a name that its source and its compiler's words decide.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from psvit.neurons.dynamics import Dynamics
from psvit.places import cache_folder

SOURCE = Path(__file__).with_name("steps.c")
FLAGS = (
    "-O3",
    "-std=c11",
    "-ffp-contract=off",
    "-fno-trapping-math",
    "-shared",
    "-fPIC",
    "-fopenmp",
)
IF, DECAYED, NOT_DECAYED = range(3)
"""What a neuron's charge is, as in ``steps.c``."""
ALONE = 1 << 12
"""Neurons for which a second thread is not worth waking."""

Kernel = Callable[..., None]


@cache
def kernel() -> Kernel | None:
    """The function of ``steps.c``; None where it cannot be compiled or loaded."""
    compiler = _compiler()
    if not compiler:
        return None
    simd = ("-mavx2",) if torch.backends.cpu.get_cpu_capability().startswith("AVX") else ()
    command = (*compiler, *FLAGS, *simd)
    about = (SOURCE.read_text(), platform.platform(), *command)
    name = hashlib.sha256("\0".join(about).encode()).hexdigest()[:16]
    path = cache_folder() / "kernels" / f"neurons-{name}.so"
    try:
        if not path.exists():
            _compile(command, path)
        found: Kernel = ctypes.CDLL(str(path)).spikes
    except (OSError, AttributeError, subprocess.SubprocessError):
        return None
    pointers = [ctypes.c_void_p] * 4 + [ctypes.c_long] * 2
    found.argtypes = pointers + [ctypes.c_float] * 3 + [ctypes.c_int] * 4  # type: ignore[attr-defined]
    found.restype = None  # type: ignore[attr-defined]
    return found


def _compiler() -> tuple[str, ...]:
    """How to call it; nothing if there is none."""
    if own := shlex.split(os.environ.get("CC", "")):
        return tuple(own) if shutil.which(own[0]) else ()
    return next(((name,) for name in ("cc", "gcc", "clang") if shutil.which(name)), ())


def _compile(command: tuple[str, ...], path: Path) -> None:
    """Into a file of its own first, which is loaded once: other processes may do so, too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        call = [*command, str(SOURCE), "-o", str(made)]
        subprocess.run(call, check=True, capture_output=True, timeout=60)
        if not hasattr(ctypes.CDLL(str(made)), "spikes"):
            raise OSError(f"{command[0]} wrote something else")
        made.replace(path)


def runs_in_c(x: Tensor) -> bool:
    """Whether ``x`` is what the function takes: float32 on a CPU, each time step in one piece."""
    return (
        x.dtype == torch.float32
        and x.device.type == "cpu"
        and x.ndim > 1
        and x.numel() > 0
        and x.stride(0) * len(x) == x.numel()
    )


def steps_in_c(
    x: Tensor, dynamics: Dynamics, *, before: Tensor | None = None, after: Tensor | None = None
) -> Tensor | None:
    """Spikes ``[T, *]`` of inputs ``[T, *]``, in the same layout; None where it cannot be done.

    ``before``: potentials ``[*]`` of the same layout to start from, not the rest. ``after``: is
    filled with those after the last step.
    """
    run = kernel()
    if run is None or not runs_in_c(x):
        return None
    spikes = torch.empty_like(x)
    held = [v for v in (before, after) if v is not None]
    if spikes.stride() != x.stride() or not all(_lies_as(v, x[0]) for v in held):
        return None  # there are gaps between the elements, or they lie otherwise
    count = x.stride(0)
    threads = torch.get_num_threads() if count > ALONE else 1
    pointers = (None if v is None else v.data_ptr() for v in (before, after))
    d = dynamics
    charge = IF if d.tau is None else DECAYED if d.decay_input else NOT_DECAYED
    run(
        *(x.data_ptr(), spikes.data_ptr(), *pointers, len(x), count),
        *(d.threshold, d.rest, d.leak or d.tau or 1.0),
        *(charge, d.leak is not None, d.reset is None, threads),
    )
    return spikes


def _lies_as(v: Tensor, x: Tensor) -> bool:
    return (v.dtype, v.shape, v.stride()) == (x.dtype, x.shape, x.stride())
