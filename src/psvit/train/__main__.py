"""Train a named model, from scratch or on from a checkpoint; the same command resumes a kill.

python -m psvit.train spikformer-digits --data digits --out runs/digits
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from psvit.errors import PsvitError
from psvit.memory import keep_freed_memory
from psvit.models import MODELS
from psvit.places import command_elsewhere
from psvit.train.config import Augment, TrainConfig
from psvit.train.presets import preset_of
from psvit.train.progress import ProgressLine
from psvit.train.reference import REPORT, WEIGHTS, ReferenceRun, train_reference

_NUMBERS = {
    "epochs": "passes over the training images; may be a fraction, or 0: statistics alone",
    "batch": "images a step",
    "lr": "highest learning rate",
    "weight_decay": "weight decay of matrices and kernels",
    "warmup": "epochs until the highest learning rate",
    "floor": "last learning rate, as a share of the highest",
    "label_smoothing": "share of the label given to all classes alike",
    "clip": "bound of the gradient's norm, 0 for none",
    "ema": "decay of the moving average of the weights, 0 for none",
    "bn_batches": "batches to measure batch-norm statistics on at the end, 0 to keep them",
    "log_steps": "steps to a line of the log, 0 for an epoch",
    "early_T": "time steps in the early part of training, 0 for the model's own",
    "early_tau": "membrane time constant in the early part, 0 for the model's own",
    "early_size": "pixels a side of images in the early part, 0 for all",
    "early_share": "share of the steps that is the early part",
    "seed": "seed of the weights, the order and the augmentation",
}
_AUGMENT = {
    "crop": "random shift, pixels",
    "erase": "probability of erasing a rectangle",
    "mixup": "alpha of blending images, 0 for none",
    "cutmix": "alpha of covering images by parts of others, 0 for none",
}


_SWITCHES = {
    "bf16": "bfloat16 autocast",
    "channels_last": "order in memory that convolutions are faster in",
    "compile": "torch.compile, and CUDA graphs on a GPU: worth its minute in long runs",
    "flip": "mirror half of the images",
}


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    keep_freed_memory()
    options = _parser().parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        run = ReferenceRun(
            name=options.name,
            data=options.data,
            config=_config(options),
            eval_data=options.eval_data,
            held_out=options.held_out,
            start=options.start,
            arguments=dict(_argument(text) for text in options.model_arg),
        )
        report = train_reference(
            run,
            options.out,
            command=command_elsewhere("python -m psvit.train", arguments, {"--out": "DIR"}),
            device=options.device,
            workers=options.workers,
            evaluate=not options.no_eval,
            progress=ProgressLine(),
        )
    except PsvitError as error:
        _say(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        _say("interrupted; the same command goes on")
        return 130
    if "eval" in report:
        figures = report["eval"]
        _say(
            f"accuracy {figures['accuracy']:.2%} of {figures['n']} images "
            f"(95 % interval {figures['low_95']:.2%} to {figures['high_95']:.2%})"
        )
    _say(f"wrote {options.out / WEIGHTS} and {options.out / REPORT}")
    return 0


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m psvit.train", description=__doc__)
    parser.add_argument("name", help=f"one of {', '.join(MODELS)}")
    parser.add_argument("--data", required=True, help="digits, folder:PATH or parquet:GLOB")
    parser.add_argument("--eval-data", help="where to measure the accuracy, if not in --data")
    parser.add_argument("--out", required=True, type=Path, help="folder of the run")
    parser.add_argument("--start", type=Path, help="checkpoint of the model to train on from")
    parser.add_argument("--held-out", type=float, default=0.0, help="share watched, not trained on")
    parser.add_argument("--no-eval", action="store_true", help="leave the evaluation split alone")
    parser.add_argument("--model-arg", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=0, help="processes that decode images")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads, 0 for torch's choice")
    for name, text in {**_NUMBERS, **_AUGMENT}.items():
        owner = TrainConfig if name in _NUMBERS else Augment
        kind = {f.name: f.type for f in dataclasses.fields(owner)}[name]
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            dest=name,
            type=int if kind == "int" else float,
            help=text,
        )
    for name, text in _SWITCHES.items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, dest=name, action=argparse.BooleanOptionalAction, help=text)
    return parser


def _config(options: argparse.Namespace) -> TrainConfig:
    """The model's preset, changed by the options that were given."""
    preset = preset_of(options.name)
    given = {k: v for k, v in vars(options).items() if v is not None}
    how = {k: given[k] for k in (*_AUGMENT, "flip") if k in given}
    rest = {k: given[k] for k in (*_NUMBERS, "bf16", "channels_last", "compile") if k in given}
    return dataclasses.replace(preset, augment=dataclasses.replace(preset.augment, **how), **rest)


def _argument(text: str) -> tuple[str, object]:
    key, _, value = text.partition("=")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


if __name__ == "__main__":
    sys.exit(main())
