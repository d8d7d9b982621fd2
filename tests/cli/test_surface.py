"""The options that people type: changing one is a decision, not an accident."""

from __future__ import annotations

import typer

from psvit.cli.app import app

MODEL = ["MODEL", "--checkpoint", "--allow-partial", "--model-arg"]
DATA = [
    "--data", "--recipe", "--size", "--mean", "--std", "--skip-bad", "--image-column",
    "--label-column", "--limit", "--batch-size", "--workers", "--device",
]  # fmt: skip

SURFACE = {
    "demo": ["-o/--out", "--json"],
    "models": ["--json"],
    "inspect": [*MODEL, "--input-shape", "--seed", "--json"],
    "evaluate": [*MODEL, *DATA, "--seed", "--journal", "--json"],
    "export": [
        *MODEL, *(o for o in DATA if o not in ("--limit", "--batch-size", "--workers", "--device")),
        "-o/--out", "--format", "--weights", "--n", "--input-shape", "--seed", "--force", "--json",
    ],
    "bench": [
        "OUT", "--runtimes", "--batch-size", "--dtype", "--seconds", "--threads", "--device",
        "--json",
    ],
    "report": ["OUT", "--compare", "--json"],
    "sensitivity": [
        *MODEL, *(option for option in DATA if option != "--limit"), "-o/--out", "--grid", "--n",
        "--cost", "--full", "--memory-limit",
        "--saliency", "--no-labels", "--recover", "--seed", "--force", "--json",
    ],
    "finetune": [
        "OUT", *DATA, "-o/--out", "--epochs", "--eval-data", "--teacher", "--checkpoint",
        "--model-arg", "--temperature", "--label-weight", "--features", "--feature-weight", "--lr",
        "--weight-decay", "--warmup", "--clip", "--ema", "--bf16", "--norms", "--augment",
        "--held-out", "--resume", "--seed", "--force", "--json",
    ],
    "compare": [
        *MODEL, *DATA, "-o/--out", "--save", "--eval-data", "--methods", "--saliency",
        "--sensitivity", "--n", "--recover", "--align", "--seed", "--force", "--json",
    ],
    "prune": [
        *MODEL, *DATA, "-o/--out", "--save", "--max-drop", "--min-accuracy", "--eval-data",
        "--saliency", "--method", "--sensitivity", "--n", "--recover", "--epochs", "--align",
        "--input-shape", "--seed", "--force", "--json",
    ],
}  # fmt: skip

DEFAULTS = {
    "saliency": None, "method": "uniform", "align": 1, "seed": 0, "device": "cpu", "workers": 0,
    "batch_size": 64,
}  # fmt: skip


def test_no_option_appears_or_vanishes_unnoticed():
    command = typer.main.get_command(app)
    found = {
        name: sorted(
            "/".join(p.opts) if p.param_type_name == "option" else p.metavar for p in sub.params
        )
        for name, sub in command.commands.items()
    }
    assert found == {name: sorted(options) for name, options in SURFACE.items()}


def test_defaults():
    command = typer.main.get_command(app)
    found = {p.name: p.default for p in command.commands["prune"].params if p.name in DEFAULTS}
    assert found == DEFAULTS
