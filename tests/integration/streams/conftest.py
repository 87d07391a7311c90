"""A Redis, a server and work on tasks, shared by the tests of a module; each test has its own task."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

from tests.integration.streams.stage import MortalRedis, StreamServer, Work


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("streams")


@pytest.fixture(scope="module")
def database(postgres_url: str, migrated_database: str) -> str:
    name = f"streams_{uuid4().hex}"
    with create_engine(postgres_url, poolclass=NullPool, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {migrated_database}"))
    return make_url(postgres_url).set(database=name).render_as_string(hide_password=False)


@pytest.fixture(scope="module")
def redis(folder: Path) -> Iterator[MortalRedis]:
    server = MortalRedis(folder)
    yield server
    server.kill()


@pytest.fixture(scope="module")
def serve(database: str, redis: MortalRedis, folder: Path) -> Iterator[Callable[..., StreamServer]]:
    """`serve(beat_seconds)` starts a server."""
    started: list[StreamServer] = []

    def start(beat_seconds: float = 15.0) -> StreamServer:
        started.append(StreamServer(database, redis.url, folder, beat_seconds))
        return started[-1]

    yield start
    for server in started:
        server.process.kill()
        server.process.wait()


@pytest.fixture(scope="module")
def server(serve: Callable[..., StreamServer]) -> StreamServer:
    return serve()


@pytest.fixture(scope="module")
def restless(serve: Callable[..., StreamServer]) -> StreamServer:
    """A server with a heartbeat every 0.3 s."""
    return serve(0.3)


@pytest.fixture(scope="module")
def work(database: str, redis: MortalRedis) -> Work:
    return Work(database, redis.url)


@pytest.fixture
def task(work: Work) -> str:
    """A task without events."""
    return work.task()
