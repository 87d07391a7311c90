"""Real Postgres and Valkey for integration tests: started once a test process, and a fresh database for each test."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from redis import Redis
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.pool import NullPool

from mesh.db import engine as engines
from mesh.db.migrate import upgrade
from mesh.embedded.postgres import Postgres
from mesh.embedded.supervisor import Supervisor
from mesh.embedded.valkey import Valkey
from tests.integration.tasks.core import Core


@pytest.fixture(scope="session")
def services_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home folder of this test process's servers."""
    return tmp_path_factory.mktemp("services")


@pytest.fixture(scope="session")
def services() -> Iterator[Supervisor]:
    """Keeps this test process's servers alive."""
    with Supervisor() as supervisor:
        yield supervisor


@pytest.fixture(scope="session")
def postgres_url(services: Supervisor, services_home: Path) -> str:
    """The database `mesh` of a running Postgres; empty, and shared by all tests of the process."""
    postgres = Postgres(services_home, durable=False)
    postgres.prepare()
    services.add(postgres.part())
    services.wait_ready()
    return postgres.url


@pytest.fixture(scope="session")
def redis_url(services: Supervisor, services_home: Path) -> str:
    """A running Valkey, shared by all tests of the process."""
    valkey = Valkey(services_home)
    services.add(valkey.part())
    services.wait_ready()
    return valkey.url


@pytest.fixture(scope="session")
def migrated_database(postgres_url: str) -> str:
    """The name of a database with the newest schema, to be copied and never changed."""
    _execute(postgres_url, "CREATE DATABASE migrated")
    upgrade(_renamed(postgres_url, "migrated"))
    # A session that stays open would block every copy.
    _execute(postgres_url, "ALTER DATABASE migrated ALLOW_CONNECTIONS false")
    _execute(postgres_url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'migrated'")
    return "migrated"


@pytest.fixture
def database_url(postgres_url: str, migrated_database: str) -> Iterator[str]:
    """A database of the test's own, with the newest schema and nothing in it."""
    name = f"test_{uuid4().hex}"
    _execute(postgres_url, f"CREATE DATABASE {name} TEMPLATE {migrated_database}")
    yield _renamed(postgres_url, name)
    _execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """Connections to a database of the test's own, as the API has them."""
    engine = engines.create(database_url, name="test")
    yield engine
    engine.dispose()


@pytest.fixture
def core(engine: Engine) -> Core:
    """What a worker would do, one move at a time."""
    return Core(engine)


@pytest.fixture
def redis_flushed(redis_url: str) -> str:
    """The running Valkey's address, with nothing in it."""
    with Redis.from_url(redis_url) as client:
        client.flushall()
    return redis_url


def _renamed(url: str, database: str) -> str:
    return make_url(url).set(database=database).render_as_string(hide_password=False)


def _execute(url: str, statement: str) -> None:
    with create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(statement))
