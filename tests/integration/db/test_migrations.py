"""Migrations: from nothing to the newest schema and back, and the newest schema is what the code says."""

from decimal import Decimal
from multiprocessing import get_context

import pytest
from alembic import command
from sqlalchemy import create_engine, inspect, make_url, text
from sqlalchemy.pool import NullPool

from mesh.db.migrate import config, upgrade
from mesh.db.tables import metadata

_STORED_LIMITS = """
    INSERT INTO networks (id, owner, name, description, shared_context, max_iterations, timeout_seconds,
                          model_selection, budget_usd, created_at, updated_at, deleted_at)
    SELECT id, 'ann', '', '', '{}', 1, 1, '{}', usd, now(), now(), CASE WHEN id = 'deleted' THEN now() END
    FROM (VALUES ('limited', 2.5), ('deleted', 1), ('free', NULL)) given (id, usd);
    INSERT INTO tasks (id, network_id, owner, status, task, context, priority, model_selection, budget_usd, run,
                       iterations, last_sequence, created_at)
    SELECT status, 'limited', 'ann', status, '', '{}', 1, '{}', 3, 1, 1, 1, now()
    FROM unnest(ARRAY['pending', 'failed', 'completed']) given (status)
"""

TABLES = set(metadata.tables) | {"alembic_version"}


@pytest.fixture
def empty_url(database_url: str) -> str:
    """A database with nothing in it."""
    with create_engine(database_url, poolclass=NullPool).begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    return database_url


def tables(url: str) -> set[str]:
    engine = create_engine(url, poolclass=NullPool)
    return set(inspect(engine).get_table_names())


def test_an_empty_database_gets_every_table(empty_url: str) -> None:
    upgrade(empty_url)
    assert tables(empty_url) >= TABLES


def test_upgrading_twice_changes_nothing(database_url: str) -> None:
    before = tables(database_url)
    upgrade(database_url)
    assert tables(database_url) == before


def test_the_schema_is_what_the_code_says(database_url: str) -> None:
    """`alembic check` raises when it would have something to migrate."""
    command.check(config(database_url))


def test_downgrading_leaves_nothing_behind(database_url: str) -> None:
    command.downgrade(config(database_url), "base")
    assert tables(database_url) == {"alembic_version"}
    upgrade(database_url)
    assert tables(database_url) >= TABLES


def test_limits_of_networks_and_tasks_that_were_only_stored_become_budgets(database_url: str) -> None:
    """What can still spend: not what is deleted or completed."""
    command.downgrade(config(database_url), "0001")
    with create_engine(database_url, poolclass=NullPool).begin() as connection:
        connection.execute(text(_STORED_LIMITS))
    upgrade(database_url)
    with create_engine(database_url, poolclass=NullPool).connect() as connection:
        found = connection.execute(text("SELECT id, limit_usd, period, counted FROM budgets ORDER BY id")).all()
    assert [tuple(row) for row in found] == [
        ("network:limited", Decimal("2.5"), "total", False),
        ("task:failed", Decimal(3), "total", False),
        ("task:pending", Decimal(3), "total", False),
    ]


def test_two_migrators_at_once_do_not_meet(empty_url: str) -> None:
    context = get_context("forkserver")
    context.set_forkserver_preload(["mesh.db.migrate"])
    with context.Pool(2) as pool:
        pool.map(upgrade, [empty_url] * 2, chunksize=1)
    assert tables(empty_url) >= TABLES
    with create_engine(empty_url, poolclass=NullPool).connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM alembic_version")).scalar_one() == 1


def test_a_password_may_hold_any_character(database_url: str) -> None:
    """Alembic's settings interpolate `%`, which is how a URL writes every other special character."""
    url = make_url(database_url).set(password="a%b@c/d").render_as_string(hide_password=False)
    assert config(url).get_main_option("sqlalchemy.url") == url
