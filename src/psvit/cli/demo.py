"""`psvit demo`: the whole story on a model and data that come with psvit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from psvit.artefacts import check_target
from psvit.cli.console import reports, say
from psvit.cli.inputs import DataOptions, data_settings, example_input, open_model
from psvit.cli.measuring import FIRING_IMAGES
from psvit.cli.options import Json
from psvit.cli.run import Choice, prune_and_save
from psvit.models import DEFAULT_MODEL, MODELS
from psvit.recover import IMAGES

SAVE = {"memory": 0.5}
"""More than twice what PSViT saves without fine-tuning: there is recovery to show."""


@reports
def demo(
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="OUT", help="The folder to write or replace.")
    ] = Path("psvit-demo"),
    json: Json = False,
) -> Mapping[str, Any] | None:
    """Prune a trained model that comes with psvit.

    It saves half of the memory of a Spikformer that reads handwritten digits, says what that
    costs, and writes the result to OUT. Nothing is downloaded or trained.
    """
    check_target(out, force=True)
    entry = MODELS[DEFAULT_MODEL]
    say(f"{entry.name}: {entry.description}")
    say(
        f"the same as: psvit prune {entry.name} --data digits --save memory=50% \\\n"
        f"             --recover obs -o {out}\n"
    )
    loaded = open_model(entry.name, None, None, allow_partial=False, seed=0)
    options = DataOptions().with_recipe_of(loaded, entry.name)
    train = options.open("digits", "train", only=False, limit=IMAGES, shuffle=True)
    with _one_thread():
        result = prune_and_save(
            loaded,
            example_input(loaded, entry.name, None, train),
            Choice(SAVE, recover="obs"),
            out,
            force=True,
            eval_data=options.open("digits", "eval", only=False),
            firing_data=options.open("digits", "eval", only=False, limit=FIRING_IMAGES),
            device=torch.device("cpu"),
            train=train,
            settings={"model": entry.name, **data_settings(options, "digits", None)},
        )
    return result if json else None


@contextmanager
def _one_thread() -> Iterator[None]:
    """So small a model gains nothing from a second thread, and waits for it on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
