"""Options of the test run."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="Write what the commands print to tests/golden/ in place of comparing.",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of one model on one worker, and leave the slowest to ``make test-thorough``.

    Those are the published models at T = 4, and at T = 1 the laws that try every group.
    """
    slow = ("test_every_group_alone", "test_a_swapped_channel_is_noticed")
    for item in items:
        name = getattr(item, "callspec", None) and item.callspec.params.get("name")
        if not isinstance(name, str) or not name.isidentifier():
            continue
        item.add_marker(pytest.mark.xdist_group(name))
        published = name.startswith("sj_")
        if published and (name.endswith("_t4") or item.originalname in slow):  # type: ignore[attr-defined]
            item.add_marker(pytest.mark.thorough)
