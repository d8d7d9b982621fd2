"""A user's own DataLoader: called with what it takes, and every batch looked at."""

from __future__ import annotations

import pytest
import torch

from psvit.data import RECIPES, open_data
from psvit.errors import DataError
from psvit.models.load import load_model

HEAD = """
import torch
from torch.utils.data import DataLoader, TensorDataset

def loader(n, classes=10, batch_size=4, images=None, labels=None):
    images = torch.arange(n * 4.0).reshape(n, 1, 2, 2) if images is None else images
    labels = torch.arange(n) % classes if labels is None else labels
    return DataLoader(TensorDataset(images, labels), batch_size=batch_size)
"""


@pytest.fixture
def write(tmp_path):
    def written(body: str) -> str:
        path = tmp_path / "mine.py"
        path.write_text(HEAD + body)
        return f"{path}:make"

    return written


def test_batches_are_those_of_the_user(write):
    data = open_data(write("def make(): return loader(10)"), split="train")
    batches = list(data)
    assert [len(y) for _, y in batches] == [4, 4, 2]
    assert torch.equal(torch.cat([x for x, _ in batches]).flatten(), torch.arange(40.0))
    assert torch.cat([y for _, y in batches]).tolist() == list(range(10))
    assert all(isinstance(batch, tuple) for batch in batches)
    assert len(data) == 3
    assert (data.info.images, data.info.shape, data.skipped) == (10, (1, 2, 2), ())


def test_the_split_and_the_batch_size_are_passed_to_who_takes_them(write):
    body = "def make(split, *, batch_size): return loader({'train': 8, 'eval': 6}[split],"
    spec = write(body + " batch_size=batch_size)")
    assert open_data(spec, split="train").info.images == 8
    assert [len(y) for _, y in open_data(spec, split="eval", batch_size=5)] == [5, 1]


def test_seed_and_workers_go_to_a_factory_that_takes_anything(write):
    body = "def make(**given): return loader(given['seed'] + 10 * given['workers'])"
    assert open_data(write(body), split="train", seed=3, workers=1).info.images == 13


def test_types_are_unified(write):
    body = "def make(): return loader(4, images=torch.zeros(4, 1, 2, 2, dtype=torch.float64),"
    spec = write(body + " labels=torch.ones(4, dtype=torch.uint8))")
    images, labels = next(iter(open_data(spec, split="train")))
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)


def test_a_limit_takes_the_first(write):
    data = open_data(write("def make(): return loader(10)"), split="train", limit=6)
    assert torch.cat([y for _, y in data]).tolist() == list(range(6))
    assert torch.cat([y for _, y in data]).tolist() == list(range(6))
    assert data.info.images == 6


def test_looking_at_the_first_batch_draws_no_random_number(write):
    body = """
def make():
    return DataLoader(TensorDataset(torch.zeros(9, 1, 2, 2), torch.arange(9)), shuffle=True)
"""
    spec = write(body)
    before = torch.random.get_rng_state()
    open_data(spec, split="train")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_module_is_found_from_the_folder_where_the_command_runs(write, tmp_path, monkeypatch):
    write("def make(): return loader(10)")
    (tmp_path / "mine.py").rename(tmp_path / "psvit_test_users_data.py")
    monkeypatch.chdir(tmp_path)
    assert open_data("psvit_test_users_data:make", split="train").info.images == 10


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise ImportError('no such\\nthing')", r"import: ImportError: no such \(mine\.py:9\)"),
        ("import sys; sys.exit(3)", "does not import: SystemExit: 3"),
        ("make = 3", "is a int, expected a function"),
        ("other = 3", "has no 'make'"),
        ("def make(): raise OSError('disk')", "raises OSError: disk"),
        ("def make(path): return loader(3)", "missing 1 required positional argument: 'path'"),
        ("def make(): return [1]", "returns a list of 1, expected a torch.utils.data.DataLoader"),
        ("def make(): return loader(0)", "gives no batch"),
        (
            "def make(): return DataLoader(TensorDataset(torch.zeros(4, 1, 2, 2)))",
            "batch 0 is a list of 1, expected a pair",
        ),
        (
            "def make(): return loader(4, images=torch.zeros(4, 1, 2, 2, dtype=torch.uint8))",
            r"images are uint8 \[4, 1, 2, 2\], expected float",
        ),
        ("def make(): return loader(4, images=torch.zeros(4, 2, 2))", r"float32 \[4, 2, 2\]"),
        ("def make(): return loader(4, labels=torch.zeros(4))", r"labels are float32 \[4\]"),
        (
            "def make(): return loader(4, labels=torch.zeros(4, 10, dtype=torch.int64))",
            r"labels are int64 \[4, 10\], expected whole numbers \[4\]",
        ),
        ("def make(): return loader(4, labels=-torch.ones(4).long())", "labels are -1 to -1"),
    ],
)
def test_what_a_factory_can_do_wrong(write, body, message):
    with pytest.raises(DataError, match=message) as error:
        open_data(write(body), split="train")
    assert "\n" not in str(error.value)


def test_a_later_batch_is_checked_too(write):
    spec = write("def make(): return loader(20, classes=20)")
    data = open_data(spec, split="train", classes=10)
    with pytest.raises(DataError, match="batch 2: labels are 8 to 11, expected 0 to 9"):
        list(data)


def test_images_that_change_their_size(write):
    body = """
class Growing(torch.utils.data.Dataset):
    def __len__(self):
        return 3
    def __getitem__(self, i):
        return torch.zeros(1, 4 + i // 2, 4), 0

def make():
    return DataLoader(Growing())
"""
    with pytest.raises(DataError, match=r"batch 2: images are \[1, 5, 4\], .*\[1, 4, 4\]"):
        list(open_data(write(body), split="train"))


def test_a_data_set_that_raises_while_it_is_read(write):
    body = """
class Failing(torch.utils.data.Dataset):
    def __len__(self):
        return 3
    def __getitem__(self, i):
        if i == 2:
            raise KeyError("gone")
        return torch.zeros(1, 4, 4), 0

def make():
    return DataLoader(Failing())
"""
    with pytest.raises(DataError, match=r"raises KeyError: 'gone' .*while it is read"):
        list(open_data(write(body), split="train"))


def test_a_recipe_for_a_factory_is_refused_and_not_ignored(write):
    with pytest.raises(DataError, match="does its own preprocessing"):
        open_data(write("def make(): return loader(4)"), split="train", recipe=RECIPES["digits"])


def test_model_and_data_of_one_file_are_of_one_module_with_the_same_imports(write):
    body = """
from timm.models.layers import DropPath

RUNS = []

class Net(torch.nn.Linear):
    def __init__(self):
        super().__init__(4, 3)
        RUNS.append("model")

def make():
    RUNS.append("data")
    return loader(len(RUNS))
"""
    spec = write(body)
    load_model(spec.replace(":make", ":Net"))
    assert open_data(spec, split="train").info.images == 2


def test_missing_files_and_modules(tmp_path):
    with pytest.raises(DataError, match=r"none\.py does not exist"):
        open_data(f"{tmp_path}/none.py:make", split="train")
    with pytest.raises(DataError, match="no module is called 'psvit_no_such_module'"):
        open_data("psvit_no_such_module:make", split="train")
