"""An engine on a database of the test's own."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from mesh.db import engine as engines


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = engines.create(database_url, name="test")
    yield engine
    engine.dispose()
