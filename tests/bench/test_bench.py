"""What is timed, in which order, and what becomes of failures; not how long it takes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from psvit.bench import Subject, bench, usable_runtimes
from psvit.bench.timing import peak_bytes, times_in_turns
from psvit.errors import OptionError
from psvit.records import InputSpec

SPEC = InputSpec((2, 3, 8, 8))
CPU = torch.device("cpu")


class Net(nn.Module):
    def __init__(self, width: int = 4, fails: bool = False) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, width, 3), nn.Linear(width, 5)
        self.fails = fails

    def forward(self, x: Tensor) -> Tensor:
        if self.fails and x.shape[0] > 2:
            raise RuntimeError("too many images")
        return self.head(self.conv(x).relu().mean((2, 3)))


def test_runs_take_turns_and_none_is_always_first() -> None:
    order: list[str] = []
    runs = [lambda name=name: order.append(name) for name in "abc"]
    times = times_in_turns(runs, CPU, seconds=0, fewest=3)
    assert "".join(order) == "abc" * 2 + "abcbcacab"
    assert [len(t) for t in times] == [3, 3, 3]


def test_a_row_for_each_model_runtime_dtype_and_batch() -> None:
    subjects = {"dense": Subject(Net(8), 200), "pruned": Subject(Net(4), 100)}
    found = bench(
        subjects, SPEC, runtimes=["eager", "faster"], batches=[1, 3],
        dtypes=["float32", "bfloat16"], seconds=0.01,
    )  # fmt: skip
    cells = [(r.model, r.runtime, r.dtype, r.batch) for r in found.rows]
    assert len(set(cells)) == len(cells) == 2 * 2 * 2 * 2
    assert all(r.median_ms > 0 and r.low_ms <= r.median_ms <= r.high_ms for r in found.rows)
    assert {r.speedup for r in found.rows if r.model == "dense"} == {1.0}
    assert found.macs_ratio("pruned") == 2.0
    data = found.to_dict()
    row = next(r for r in data["rows"] if r["model"] == "pruned")
    assert row["share_of_macs_ratio"] == pytest.approx(row["speedup"] / 2)
    assert data["about"]["device"]


def test_what_fails_says_why_and_the_others_are_timed() -> None:
    subjects = {"dense": Subject(Net(), 1), "pruned": Subject(Net(fails=True), 1)}
    found = bench(subjects, SPEC, runtimes=["eager"], batches=[1, 4], seconds=0.01)
    rows = {(r.model, r.batch): r for r in found.rows}
    assert rows["pruned", 4].failed == "RuntimeError: too many images"
    assert rows["pruned", 4].median_ms is None
    assert rows["dense", 4].median_ms
    assert rows["pruned", 1].median_ms


def test_models_are_left_as_they_are() -> None:
    model = Net().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    bench(
        {"dense": Subject(model, 1)}, SPEC, runtimes=["eager", "faster"], batches=[1],
        dtypes=["bfloat16"], seconds=0.01,
    )  # fmt: skip
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runtimes": ["tensorrt"]}, "no runtime is called 'tensorrt'"),
        ({"runtimes": ["cuda-graph"]}, "timed on cuda only"),
        ({"batches": [0]}, "a batch size is 0"),
        ({"dtypes": ["int4"]}, "no dtype 'int4'"),
    ],
)
def test_options_that_mean_nothing(options: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        bench({"dense": Subject(Net(), 1)}, SPEC, **{"runtimes": ["eager"], **options})


def test_runtimes_that_need_a_gpu_are_not_offered_without() -> None:
    usable = usable_runtimes(CPU)
    assert {"eager", "faster", "compiled"} <= set(usable)
    assert "cuda-graph" not in usable


def test_peak_memory_is_that_of_the_run() -> None:
    def run() -> None:
        torch.ones(16 << 20)  # 64 MB

    peak = peak_bytes(run, CPU)
    if peak is None:
        pytest.skip("this system does not tell the peak memory of a process")
    assert 60e6 < peak < 90e6
