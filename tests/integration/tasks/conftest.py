"""A core of the test's own."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from mesh.db import engine as engines
from tests.integration.tasks.core import Core


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = engines.create(database_url, name="test")
    yield engine
    engine.dispose()


@pytest.fixture
def core(engine: Engine) -> Core:
    return Core(engine)
