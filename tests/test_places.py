"""What is written down for others names no folder of this machine."""

from __future__ import annotations

from psvit.places import command_elsewhere


def test_a_command_line_keeps_everything_but_folders() -> None:
    words = ["net", "--data", "parquet:/home/me/a-*.parquet", "--start=/tmp/w.safetensors"]
    words += ["--no-eval", "--out", "/tmp/x", "--model-arg", "T=1", "--lr", "1e-3", "--out=/tmp/y"]
    assert command_elsewhere("train", words, {"--out": "DIR"}) == (
        "train net --data 'parquet:a-*.parquet' --start=w.safetensors --no-eval --out DIR "
        "--model-arg T=1 --lr 1e-3 --out=DIR"
    )
