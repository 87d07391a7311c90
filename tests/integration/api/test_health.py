"""Health while the database is short of connections, or says nothing at all."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Thread

import pytest
from sqlalchemy import event
from sqlalchemy.pool import QueuePool

from mesh import clock
from mesh.config import Settings
from mesh.db import engine as engines
from mesh.db.unit_of_work import Database
from mesh.errors import UnavailableError
from mesh.health import Health
from tests.integration.api.conftest import Start

SECONDS = 0.3


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    engine = engines.create(database_url, name="test")
    yield Database(engine)
    engine.dispose()


@pytest.fixture
def health(database: Database, redis_url: str) -> Health:
    return Health(database, Settings(redis_url=redis_url), clock.now, breakers=dict, database_seconds=SECONDS)


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


def test_it_answers_in_time_while_every_connection_is_in_use(database: Database, health: Health) -> None:
    with ExitStack() as stack:
        for _ in range(engines.POOL_SIZE + engines.POOL_OVERFLOW):
            stack.enter_context(database.begin())
        with at_most(5):
            assert health.ready() == "unhealthy"
            assert health.report().status == "unhealthy"
            with pytest.raises(UnavailableError):
                health.counts()
    with at_most(5):
        assert health.ready() == "healthy"


def test_however_many_ask_one_look_at_a_time_waits_for_the_database(database: Database, health: Health) -> None:
    with ExitStack() as stack:
        blocking = stack.enter_context(database.begin())
        blocking.connection.exec_driver_sql("LOCK TABLE steps IN ACCESS EXCLUSIVE MODE")
        callers = [Thread(target=health.report) for _ in range(20)]
        with at_most(5):
            for caller in callers:
                caller.start()
            for caller in callers:
                caller.join()
        assert isinstance(database.engine.pool, QueuePool)
        assert database.engine.pool.checkedout() == 2
    with at_most(5):
        assert health.ready() == "healthy"


def test_only_counts_read_every_network_and_task(database: Database, health: Health) -> None:
    asked: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    assert health.ready() == "healthy"
    assert asked == ["SELECT 1"]
    assert health.report().status == "degraded"  # no worker is there
    assert not any("networks" in statement or "FROM tasks" in statement for statement in asked)
    assert vars(health.counts()) == {"active_networks_count": 0, "active_tasks_count": 0}
    assert any("FROM tasks" in statement for statement in asked)


def test_a_database_that_takes_connections_and_says_nothing_is_503_within_two_seconds(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        service = start(MESH_DATABASE_URL=f"postgresql://mesh@127.0.0.1:{silent.getsockname()[1]}/mesh")
        assert service.client().get("/health/live").status_code == 200  # it has started
        for path in ("/health/ready", "/health"):
            with at_most(5):
                answer = service.client().get(path)
            assert (answer.status_code, answer.json()) == (503, {"status": "unhealthy"})
        with at_most(5):
            assert service.client().get("/health/live").status_code == 200
