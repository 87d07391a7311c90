"""What holds for every test."""

from collections.abc import Iterator

import pytest
import structlog


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Fail where pytest-xdist does not know of groups: each of their systems would be started once a worker.

    It keeps a test's group in its id.
    """
    if not config.getoption("loadgroup", default=False):
        return
    spread = [item.nodeid for item in items if item.get_closest_marker("xdist_group") and "@" not in item.nodeid]
    if spread:
        raise pytest.UsageError(f"pytest-xdist takes no notice of the groups of {len(spread)} tests: {spread[0]} ...")


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """A command that runs within the test process sets logging up, and `capture_logs` sees nothing from then on."""
    yield
    if structlog.is_configured():
        structlog.reset_defaults()
