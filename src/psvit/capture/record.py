"""capture(model, example) -> Graph: write down what a model computes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn

from psvit.capture.check import fixed_sizes
from psvit.capture.copying import private_copy
from psvit.capture.patches import recording
from psvit.capture.recorder import Recorder, drop_unused_sizes
from psvit.capture.settling import makeup, restored
from psvit.capture.sketch import sketch
from psvit.errors import CaptureError, ModelError, PsvitError
from psvit.neurons import reset_state
from psvit.records import Graph, InputSpec, Mode


def capture(
    model: nn.Module,
    example_inputs: torch.Tensor | Sequence[torch.Tensor],
    *,
    check: bool = True,
) -> Graph:
    """Record the eval and the train forward of ``model``.

    On shapes alone where that shows everything (see ``psvit.capture.sketch``), else on real
    tensors, while it runs.

    ``example_inputs``: one tensor or several, e.g. images ``[B, C, H, W]`` or frames
    ``[T, B, C, H, W]``; B >= 2 tells a batch axis from one that merely has size 1.
    ``check``: also see whether the recording holds at another batch size and T, and report sizes
    that are baked in (``Graph.fixed``).

    The model is not touched: psvit works on a copy, and restores the random state.
    Raises ModelError if the forward fails on the example, CaptureError if it cannot be recorded.
    """
    inputs = _checked_inputs(example_inputs)
    root = private_copy(model)
    specs = tuple(InputSpec(tuple(x.shape), str(x.dtype).removeprefix("torch.")) for x in inputs)
    with _own_randomness(inputs):
        drawn = sketch(root, inputs)
        forwards, notes = (drawn.forwards, drawn.notes) if drawn else _run(root, inputs)
        root.eval()
        graph = Graph(root, forwards, specs, notes)
        if check:
            found = fixed_sizes(graph, inputs, drawn.repeats if drawn else None)
            graph = replace(graph, fixed=tuple(dict.fromkeys([*notes, *found])))
    return graph


def _run(
    root: nn.Module, inputs: tuple[torch.Tensor, ...]
) -> tuple[dict[Mode, fx.Graph], tuple[str, ...]]:
    """Both forwards, recorded while they run, and what the recording had to fix."""
    constants: dict[int, torch.Tensor] = {}
    train = _record_settled(root, inputs, constants)
    evaluation = _record(root, inputs, "eval", constants)
    notes = tuple(dict.fromkeys(train.fixed + evaluation.fixed))
    return {"eval": evaluation.graph, "train": train.graph}, notes


def _record_settled(
    root: nn.Module, inputs: tuple[torch.Tensor, ...], constants: dict[int, torch.Tensor]
) -> Recorder:
    """Record the train forward, once more if the first pass changed what the model is.

    Parameters may be created late, and "first call" flags spent, by a first forward.
    """
    before = makeup(root)
    recorder = _record(root, inputs, "train", constants, settle=True)
    if makeup(root) == before:
        return recorder
    for name in [n for n in root._buffers if n.startswith("constant_")]:
        del root._buffers[name]  # what looked like a constant may be a parameter by now
    constants.clear()
    return _record(root, inputs, "train", constants)


def _record(
    root: nn.Module,
    inputs: tuple[torch.Tensor, ...],
    mode: Mode,
    constants: dict[int, torch.Tensor],
    *,
    settle: bool = False,
) -> Recorder:
    recorder = Recorder(root, constants)
    with restored(root, tensors=True, attributes=not settle):
        root.train(mode == "train")
        # new tensor objects: an example must not carry nodes of another recording
        inputs = tuple(x.clone() for x in inputs)
        for i, x in enumerate(inputs):
            recorder.register_input(x, i)
        try:
            with recording(recorder):
                out = root(*inputs)
        except PsvitError:
            raise
        except Exception as error:
            _blame_model(root, inputs)
            raise CaptureError(
                f"the {mode} forward of {type(root).__name__} runs, but not while it is recorded "
                f"({type(error).__name__}: {_first_line(error)})"
            ) from error
        recorder.graph.output(recorder.argument(out))
    drop_unused_sizes(recorder.graph)
    return recorder


def _blame_model(root: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    """Raise ModelError if the model fails without psvit too."""
    reset_state(root)
    try:
        with torch.no_grad():
            root(*(x.clone() for x in inputs))
    except Exception as error:
        shapes = ", ".join(f"{list(x.shape)} {x.dtype}" for x in inputs)
        raise ModelError(
            f"{type(root).__name__} fails on an input of shape {shapes} "
            f"({type(error).__name__}: {_first_line(error)}): "
            "give an example input that the model accepts"
        ) from error


@contextmanager
def _own_randomness(inputs: tuple[torch.Tensor, ...]) -> Iterator[None]:
    devices = [x.device for x in inputs if x.device.type == "cuda"]
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(0)
        yield


def _checked_inputs(example: Any) -> tuple[torch.Tensor, ...]:
    inputs = (example,) if isinstance(example, torch.Tensor) else tuple(example)
    for x in inputs:
        if not isinstance(x, torch.Tensor):
            raise ModelError(
                f"an example input is a {type(x).__name__}, expected a tensor "
                "such as torch.rand(2, 3, 224, 224)"
            )
        if x.ndim == 0 or x.numel() == 0:
            raise ModelError(f"an example input has shape {list(x.shape)}: it holds nothing to run")
    if not inputs:
        raise ModelError("no example input was given, expected e.g. torch.rand(2, 3, 224, 224)")
    return tuple(x.detach() for x in inputs)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or "no message").splitlines()[0]
