"""What people read, letter by letter; figures that vary from run to run are masked.

After an intended change: pytest tests/cli/test_text.py --update-golden, and read the diff.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

import psvit
from psvit.cli.app import main
from psvit.records import Figures, Width
from psvit.report.tables import figures_table, widths_table
from psvit.report.units import bytes_text, change_text, count_text, plural, seconds_text

COMMANDS = (
    "demo", "models", "inspect", "prune", "sensitivity", "compare", "finetune", "evaluate",
    "export", "bench", "report",
)  # fmt: skip


def masked(text: str, folder: Path) -> str:
    """Without folder names, progress, and the digits of what is measured by running.

    The figures' columns are as wide as those digits, so runs of spaces and rules there shrink.
    """
    lines, figures = [], False
    for line in text.replace(str(folder), "FOLDER").splitlines():
        if line.endswith((" ...", " left")):
            continue
        figures |= line.endswith("change")
        if figures:
            line = re.sub("─+", "─", re.sub(" +", " ", line))
        measured = re.match(
            r" *(accuracy on \d+ images|95 % interval|SOPs.*driven|energy.*convention"
            r"|latency.* threads?|the unpruned model after the same recovery:)",
            line,
        )
        if measured:
            rest = re.sub(r"[-+]?\d+(\.\d+)?", "#", line[measured.end() :])
            line = measured[0] + re.sub("##", "#", rest)
        lines.append(line)
    return "\n".join(lines)


@pytest.mark.parametrize("command", COMMANDS)
def test_help(run, same_as_golden, command):
    ended = run(command, "--help")
    assert ended.code == 0
    assert ended.err == ""
    same_as_golden(f"help-{command}", ended.out)


def test_help_of_the_program_also_without_arguments(run, same_as_golden):
    ended = run("--help")
    same_as_golden("help", ended.out)
    assert run().out == ended.out
    assert run().code == 0


def test_version(run):
    assert run("--version").out == f"psvit {psvit.__version__}\n"


def test_models(run, same_as_golden):
    same_as_golden("models", run("models").err)


def test_inspect_of_a_users_model(run, net, same_as_golden):
    text = run("inspect", net, "--input-shape", "1,8,8").err
    same_as_golden("inspect-net", text.replace("a model that prints\n", ""))


def test_inspect_of_the_default(run, same_as_golden):
    ended = run("inspect", "spikformer-digits")
    assert ended.code == 0, ended.err
    same_as_golden("inspect-spikformer-digits", ended.err)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo, run once; (folder, stderr, JSON)."""
    out = tmp_path_factory.mktemp("demo") / "psvit-demo"
    text, data = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(text), contextlib.redirect_stdout(data):
        assert main(["demo", "-o", str(out), "--json"]) == 0, text.getvalue()
    return out, text.getvalue(), json.loads(data.getvalue())


def test_demo(demo, same_as_golden):
    out, text, _ = demo
    same_as_golden("demo", masked(text, out.parent))


def test_demo_saves_what_it_promises(demo):
    out, _, data = demo
    before, after = data["before"], data["after"]
    saved = 1 - after["memory_bytes"] / before["memory_bytes"]
    assert 0.5 <= saved <= 0.52
    assert before["accuracy"] >= 0.97
    assert after["accuracy"] >= before["accuracy"] - 0.03
    assert after["params"] == sum(p.numel() for p in psvit.load(out).parameters())


def test_demo_replaces_its_own_folder_and_no_other(run, demo, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    ended = run("demo", "-o", tmp_path / "photos")
    assert ended.code == 2
    assert "not a folder that psvit wrote" in ended.err


@pytest.mark.parametrize("width", [80, 60])
def test_tables_fit_narrow_terminals(width):
    long = "stages.0.blocks.11.attention.projections.query_key_value.convolution (+17)"
    figures = Figures(66_340_000_000, 16_585_000_000, 123_456_000_000, 0.9999, 0.99, 1.0, 50_000)
    figures = Figures(**{**vars(figures), "latency_ms": 12345.6})
    for table in (
        widths_table([Width(long, "residual stream", 3072, 2304)]),
        figures_table(figures, figures, ", 1 image, cpu, 16 threads"),
    ):
        console = Console(width=width, record=True, file=io.StringIO())
        console.print(table)
        text = console.export_text()
        assert max(len(line.rstrip()) for line in text.splitlines()) <= width
        assert "…" not in text


def test_names_in_tables_are_folded_and_not_cut():
    name = "a" * 100
    console = Console(width=60, record=True, file=io.StringIO())
    console.print(widths_table([Width(name, "hidden", 8, 4)]))
    assert console.export_text().count("a") >= 100


def test_figures_without_accuracy_leave_it_out():
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(figures_table(Figures(10, 5, 3), Figures(8, 4, 3)))
    assert "accuracy" not in console.export_text()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (bytes_text(0), "0 B"),
        (bytes_text(999), "999 B"),
        (bytes_text(1000), "1.00 kB"),
        (bytes_text(999_499), "999 kB"),
        (bytes_text(999_500), "1.00 MB"),
        (bytes_text(12_345_678), "12.3 MB"),
        (count_text(129_354), "129 k"),
        (count_text(7), "7"),
        (change_text(200, 150), "-25.0 %"),
        (change_text(0, 1), ""),
        (seconds_text(3.21), "3.2 s"),
        (seconds_text(75), "1:15"),
        (seconds_text(3725), "1:02:05"),
        (plural(1, "group"), "1 group"),
        (plural(1234, "group"), "1,234 groups"),
    ],
)
def test_units(text, expected):
    assert text == expected
