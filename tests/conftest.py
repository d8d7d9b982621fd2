"""Options of the test run."""

from __future__ import annotations

import zlib

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="Write what the commands print to tests/golden/ in place of comparing.",
    )


SAMPLED = ("laws", "zoo", "cost")
"""Folders whose tests run on every model of the zoo."""
EVERYDAY = ("test_all_groups_together", "test_every_head_alone")
"""Laws that every model of the zoo is held to each time."""


@pytest.hookimpl(tryfirst=True)  # xdist, too, reads the marks in this hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep what shares work on one worker, and leave much to ``make test-thorough``.

    Work is shared by the tests of one model, and by those of a file that use its fixtures. Left
    to ``make test-thorough`` are the published models at T = 4 and, of the tests beyond EVERYDAY
    that run on every model, four models in five: which ones differs from test to test.
    """
    for item in items:
        name = getattr(item, "callspec", None) and item.callspec.params.get("name")
        if not isinstance(name, str) or not name.isidentifier():
            if _shares_a_fixture(item):
                item.add_marker(pytest.mark.xdist_group(item.path.as_posix()))
            continue
        item.add_marker(pytest.mark.xdist_group(name))
        law = item.originalname  # type: ignore[attr-defined]
        small = not any(f"/{part}/" in item.path.as_posix() for part in SAMPLED)
        sampled = small or law in EVERYDAY or zlib.crc32(f"{law} {name}".encode()) % 5 == 0
        if not sampled or (name.startswith(("sj_", "sdt_")) and name.endswith("_t4")):
            item.add_marker(pytest.mark.thorough)


def _shares_a_fixture(item: pytest.Item) -> bool:
    """Whether it uses what is made once for its file."""
    fixtures = item._fixtureinfo.name2fixturedefs.values()  # type: ignore[attr-defined]
    return any(found[-1].scope == "module" for found in fixtures if found)
