"""What holds for every test."""

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """A command that runs within the test process sets logging up, and `capture_logs` sees nothing from then on."""
    yield
    if structlog.is_configured():
        structlog.reset_defaults()
