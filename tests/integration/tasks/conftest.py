"""The core on connections of both kinds."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from mesh.db import engine as engines


@pytest.fixture(params=[False, True], ids=["as the API", "as workers"])
def engine(database_url: str, request: pytest.FixtureRequest) -> Iterator[Engine]:
    engine = engines.create(database_url, name="mesh-test", prepared_only=request.param)
    yield engine
    engine.dispose()
