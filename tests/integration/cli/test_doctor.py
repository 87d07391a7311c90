"""`mesh doctor` against real services: what it finds, what it advises, and its exit code."""

from datetime import timedelta

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Executable, create_engine, func, insert, text
from sqlalchemy.pool import NullPool

from mesh.cli.doctor import doctor
from mesh.cli.up import ALL_QUEUES
from mesh.db.tables import workers
from mesh.ids import new_id


@pytest.fixture(autouse=True)
def distributed(monkeypatch: pytest.MonkeyPatch, database_url: str, redis_url: str) -> None:
    """The settings of one part among many."""
    monkeypatch.delenv("MESH_BROKER_URL", raising=False)
    monkeypatch.setenv("MESH_DATABASE_URL", database_url)
    monkeypatch.setenv("MESH_REDIS_URL", redis_url)
    monkeypatch.setenv("MESH_SECRETS", f"v1:{'x' * 40}")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-made-up")


def diagnose(exit_code: int) -> str:
    result: Result = CliRunner().invoke(doctor)
    assert result.exit_code == exit_code, result.output
    return result.output


def execute(url: str, statement: Executable) -> None:
    with create_engine(url, poolclass=NullPool).begin() as connection:
        connection.execute(statement)


def a_process(url: str, role: str, queues: tuple[str, ...] = ()) -> None:
    lease = {"started_at": func.now(), "lease_until": func.now() + timedelta(minutes=1)}
    row = {"id": new_id("worker"), "role": role, "host": "here", "pid": 1, "queues": list(queues), "slots": 8}
    execute(url, insert(workers).values(row | lease))


def test_a_system_that_runs_is_well(database_url: str) -> None:
    a_process(database_url, "worker", ALL_QUEUES)
    a_process(database_url, "beat")
    found = diagnose(0)
    assert "FAIL" not in found
    assert "warn" not in found
    assert "mesh.control 8" in found


def test_services_without_processes_are_a_warning_and_not_broken() -> None:
    found = diagnose(0)
    assert "-> mesh worker; mesh worker --control" in found
    assert "-> mesh beat" in found


def test_an_old_schema_is_broken_and_migrate_mends_it(database_url: str) -> None:
    execute(database_url, text("DELETE FROM alembic_version"))
    found = diagnose(1)
    assert "FAIL  schema" in found
    assert "-> mesh migrate" in found


def test_an_empty_database_is_an_old_schema(monkeypatch: pytest.MonkeyPatch, postgres_url: str) -> None:
    monkeypatch.setenv("MESH_DATABASE_URL", postgres_url)
    assert "FAIL  schema" in diagnose(1)


def test_more_processes_than_connections_are_broken(database_url: str) -> None:
    for _ in range(9):  # ten connections each, and max_connections is 100
        a_process(database_url, "worker", ALL_QUEUES)
    found = diagnose(1)
    assert "FAIL  connections" in found
    assert "set max_connections to at least 103" in found


@pytest.mark.parametrize(
    ("variable", "url", "subject"),
    [
        ("MESH_DATABASE_URL", "postgresql://mesh:hidden@127.0.0.1:1/mesh", "database"),
        ("MESH_DATABASE_URL", "nonsense", "database"),
        ("MESH_REDIS_URL", "redis://:hidden@127.0.0.1:1", "redis"),
        ("MESH_REDIS_URL", "nonsense", "redis"),
        ("MESH_BROKER_URL", "redis://:hidden@127.0.0.1:1", "broker"),
        ("MESH_BROKER_URL", "nonsense://", "broker"),
    ],
)
def test_an_address_where_nobody_answers_is_broken_and_shows_no_password(
    variable: str, url: str, subject: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, url)
    found = diagnose(1)
    assert f"FAIL  {subject} " in found
    assert variable in found
    assert "hidden" not in found
