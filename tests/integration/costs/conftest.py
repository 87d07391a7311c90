"""A database of the test's own, a clock, and the parts that add the ledger up."""

from collections.abc import Iterator

import pytest

from mesh.costs.rollup import Rollup
from mesh.costs.statistics import Statistics
from mesh.db import engine as engines
from mesh.db.unit_of_work import Database
from mesh.testing import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    engine = engines.create(database_url, name="test")
    yield Database(engine)
    engine.dispose()


@pytest.fixture
def statistics(database: Database, clock: FakeClock) -> Statistics:
    return Statistics(database, clock)


@pytest.fixture
def rollup(database: Database, clock: FakeClock) -> Rollup:
    return Rollup(database, clock)
