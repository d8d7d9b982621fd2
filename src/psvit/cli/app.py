"""The program `psvit`: its subcommands, and how any failure ends.

Exit codes: 0 done, 1 failed, 2 bad input, 3 budget out of reach, 130 interrupted.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from psvit import __version__
from psvit.cli.bench import bench
from psvit.cli.compare import compare
from psvit.cli.console import fail
from psvit.cli.demo import demo
from psvit.cli.evaluate import evaluate
from psvit.cli.export import export
from psvit.cli.finetune import finetune
from psvit.cli.inspect import inspect
from psvit.cli.models import models
from psvit.cli.prune import prune
from psvit.cli.report import report
from psvit.cli.sensitivity import sensitivity
from psvit.cli.typed import remember_arguments
from psvit.errors import PsvitError
from psvit.memory import keep_freed_memory

INTERRUPTED = 130

app = typer.Typer(
    name="psvit",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _program(
    context: typer.Context,
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)
    ] = False,
) -> None:
    """Structural pruning of Spiking Vision Transformers: smaller models, exactly equivalent."""
    if show_version:
        typer.echo(f"psvit {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


for command in (
    *(demo, models, inspect, prune, sensitivity, compare, finetune, evaluate, export, bench),
    report,
):
    app.command()(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code. Set PSVIT_DEBUG=1 to see tracebacks."""
    keep_freed_memory()
    remember_arguments(sys.argv[1:] if arguments is None else arguments)
    debug = os.environ.get("PSVIT_DEBUG") == "1"
    # SpikingJelly registers kernels that need Triton; without a GPU torch warns that it is absent.
    logging.getLogger("torch._library.triton").setLevel(logging.ERROR)
    try:
        code = app(
            args=None if arguments is None else list(arguments),
            prog_name="psvit",
            standalone_mode=False,
        )
        if code == INTERRUPTED:  # how typer returns a KeyboardInterrupt
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except PsvitError as error:
        if debug:
            raise
        fail(error)
        return error.exit_code
    except typer.TyperException as error:  # usage: an unknown option, a missing argument
        context = getattr(error, "ctx", None)
        command = "psvit" if context is None else context.command_path
        fail(f"{error.format_message().rstrip('.')} (see `{command} --help`)")
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write("psvit: interrupted, nothing written\n")
        return INTERRUPTED
    except Exception as error:
        if debug:
            raise
        fail(
            f"{type(error).__name__}: {error} (this is a defect of psvit: "
            "PSVIT_DEBUG=1 shows where it happened)"
        )
        return 1
