"""Claiming and queueing stay cheap however long the queue is: pages touched, of the very statements that run."""

import re
from collections.abc import Callable, Iterator
from typing import Any, cast
from uuid import uuid4

import pytest
from sqlalchemy import Connection, Engine, create_engine, make_url, text
from sqlalchemy.pool import NullPool

from mesh.db import engine as engines
from mesh.db.session import Cursor, Query, Session, Values
from mesh.tasks.claims import WAITING_QUEUES, make_ready
from tests.builders import add_ready_steps, add_step
from tests.integration.tasks.queue import Queue

# One process makes the queue, and the test that changes it comes last.
pytestmark = pytest.mark.xdist_group("long_queue")

STEPS = 100_000
# More than half are the indexes' share of writing a new version of a row; a claim that overtakes an older step of its
# owner, as all do where there is one owner, writes two.
MOST_PAGES = 50
# Autovacuum comes after so many dead rows (see the storage parameters of `steps`), and dead rows stand at the front.
DEAD_ROWS = 5_000
MOST_PAGES_BEFORE_VACUUM = 250


@pytest.fixture(scope="module", params=[1, 10_000], ids=["one_owner", "10000_owners"])
def long_queue(request: pytest.FixtureRequest, postgres_url: str, migrated_database: str) -> Iterator[Engine]:
    """A database with 100,000 ready steps that its tests share."""
    name = f"queue_{uuid4().hex}"
    admin = create_engine(postgres_url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {migrated_database}"))
    url = make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
    engine = engines.create(url, name="test")
    with engine.begin() as connection:
        # What is measured is the time until it comes.
        connection.execute(text("ALTER TABLE steps SET (autovacuum_enabled = false)"))
        add_ready_steps(connection, Queue(connection).task_id, STEPS, owners=request.param)
        connection.execute(text("ANALYZE steps"))
    yield engine
    engine.dispose()
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def connection(long_queue: Engine) -> Iterator[Connection]:
    with long_queue.connect() as connection:
        yield connection


@pytest.fixture
def queue(connection: Connection) -> Queue:
    return Queue(connection)


def test_a_claim_touches_few_pages(connection: Connection, queue: Queue) -> None:
    assert pages(connection, queue.claim) <= MOST_PAGES


@pytest.mark.parametrize("owner", ["owner0", "newcomer"])
def test_queueing_a_step_touches_few_pages(connection: Connection, queue: Queue, owner: str) -> None:
    step_id = add_step(connection, queue.task_id, owner)
    assert pages(connection, lambda: make_ready(connection, [step_id], from_states=["blocked"])) <= MOST_PAGES


def test_finding_the_queues_that_have_work_touches_few_pages(connection: Connection) -> None:
    assert pages(connection, lambda: connection.execute(WAITING_QUEUES).all()) <= MOST_PAGES


def test_old_statistics_do_not_make_a_claim_read_the_table(connection: Connection, queue: Queue) -> None:
    """The statistics say that all is ready; now nearly nothing is, and it stands at the table's end."""
    connection.execute(text("UPDATE steps SET state = 'succeeded' WHERE state = 'ready'"))
    queue.add("last", 1, 1)
    assert pages(connection, queue.claim) < STEPS / 50


def test_a_claim_is_still_cheap_just_before_autovacuum(connection: Connection, queue: Queue) -> None:
    """Last in this module, since it commits."""
    for _ in range(DEAD_ROWS):
        queue.claim()
        connection.commit()
    queue.claim()
    assert pages(connection, queue.claim) <= MOST_PAGES_BEFORE_VACUUM


_SETTINGS = re.compile(r"^(SET LOCAL [^;]+; )+")


def pages(connection: Connection, run: Callable[[], object]) -> int:
    """Shared pages touched by the one statement of `run`, which is executed once more under EXPLAIN."""
    session = cast(Session, connection.connection.dbapi_connection)
    statements: list[tuple[Any, Any]] = []

    class Noting(Cursor):
        def execute(self, query: Query, vars: Values = None) -> None:  # noqa: A002  # psycopg2's name
            statements.append((query, vars))
            super().execute(query, vars)

    with connection.begin_nested() as tried:
        session.cursor_factory = Noting
        run()
        session.cursor_factory = Cursor
        tried.rollback()
    ((statement, parameters),) = [each for each in statements if not each[0].startswith("PREPARE")]
    # What it sets for the planner was undone: the default one must do.
    explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {_SETTINGS.sub('', statement)}"
    (explained,) = connection.exec_driver_sql(explain, parameters).scalar_one()
    top = explained["Plan"]
    # Its count holds that of everything under it, but for CTEs that write, unless it is such a one's rows: those run
    # when it has ended.
    own = f"CTE {top.get('CTE Name')}"
    late = [node for node in top.get("Plans", []) if node["Node Type"] == "ModifyTable" and node["Subplan Name"] != own]
    return sum(int(node[f"Shared {kind} Blocks"]) for node in [top, *late] for kind in ("Hit", "Read"))
