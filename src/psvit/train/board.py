"""TensorBoard's view of a run: its log, written again from the first line in every session."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from psvit.train.devices import Devices

FOLDER = "tensorboard"


@contextmanager
def open_board(
    run: Path | None, devices: Devices, say: Callable[[str], None]
) -> Iterator[Callable[[Mapping[str, Any]], None] | None]:
    """What takes the lines of a log; None without a folder, and, which is said, without the
    package. ``run`` is the folder of the run, events go into ``run/tensorboard``."""
    if run is None or not devices.main:
        yield None
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of packages that TensorBoard can do without
            from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        say("no TensorBoard log is written, log.jsonl is: pip install 'psvit[finetune]' for both")
        yield None
        return
    place = run / FOLDER
    writers: list[Any] = []

    def write(line: Mapping[str, Any]) -> None:
        if not writers:  # only now, when the folder is known to be this run's
            for stale in place.glob("events.out.tfevents.*"):
                stale.unlink()  # a killed session may have told of steps that are done again
            writers.append(SummaryWriter(place.as_posix()))
        for name, value in line.items():
            if name != "step":
                writers[0].add_scalar(name, value, line["step"])
        writers[0].flush()

    try:
        yield write
    finally:
        for writer in writers:
            writer.close()
