"""The neurons of ``neuron.c``, compiled on this machine the first time that they are needed.

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

from psvit.places import cache_folder

SOURCE = Path(__file__).with_name("neuron.c")
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
"""What a neuron's charge is, as in ``neuron.c``."""
ALONE = 1 << 12
"""Neurons for which a second thread is not worth waking."""

Kernel = Callable[..., None]


@cache
def kernel() -> Kernel | None:
    """The function of ``neuron.c``; None where it cannot be compiled or loaded."""
    compiler = _compiler()
    if not compiler:
        return None
    simd = ("-mavx2",) if torch.backends.cpu.get_cpu_capability().startswith("AVX") else ()
    command = (*compiler, *FLAGS, *simd)
    about = (SOURCE.read_text(), platform.platform(), *command)
    name = hashlib.sha256("\0".join(about).encode()).hexdigest()[:16]
    path = cache_folder() / "kernels" / f"neuron-{name}.so"
    try:
        if not path.exists():
            _compile(command, path)
        found: Kernel = ctypes.CDLL(str(path)).spikes
    except (OSError, AttributeError, subprocess.SubprocessError):
        return None
    pointers = [ctypes.c_void_p] * 2 + [ctypes.c_long] * 2
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
    x: Tensor,
    *,
    threshold: float,
    rest: float,
    scale: float,
    charge: int,
    product: bool,
    soft: bool,
) -> Tensor | None:
    """Spikes ``[T, *]`` of inputs ``[T, *]``, in the same layout; None where it cannot be done.

    ``charge``: IF, DECAYED or NOT_DECAYED; ``scale``: tau, or 1 / tau if ``product``.
    """
    run = kernel()
    if run is None or not runs_in_c(x):
        return None
    spikes = torch.empty_like(x)
    if spikes.stride() != x.stride():  # there are gaps between the elements
        return None
    count = x.stride(0)
    threads = torch.get_num_threads() if count > ALONE else 1
    run(
        *(x.data_ptr(), spikes.data_ptr(), len(x), count),
        *(threshold, rest, scale, charge, product, soft, threads),
    )
    return spikes
