"""Claiming and queueing stay cheap however long the queue is: pages touched, of the very statements that run."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, text

from mesh.tasks.claims import WAITING_QUEUES, make_ready
from tests.builders import add_ready_steps, add_step
from tests.integration.tasks.queue import Queue

STEPS = 100_000
# Of these about half are the indexes' share of writing one or two new versions of a row.
MOST_PAGES = 50
# Autovacuum comes after so many dead rows (see the storage parameters of `steps`).
DEAD_ROWS = 5_000


@pytest.fixture(scope="module", params=[1, 10_000], ids=["one owner", "10,000 owners"])
def long_queue(request: pytest.FixtureRequest, postgres_url: str, migrated_database: str) -> Iterator[Engine]:
    """100,000 ready steps; tests share them, and roll back."""
    yield from ()


def pages(connection: Connection, run: Callable[[], object]) -> int:
    """Shared pages touched by the last statement of `run`, which is executed once more under EXPLAIN."""
    statements: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        statements.append((statement, parameters))

    with connection.begin_nested() as tried:
        event.listen(connection, "before_cursor_execute", note)
        run()
        event.remove(connection, "before_cursor_execute", note)
        tried.rollback()
    ((statement, parameters),) = statements
    (explained,) = connection.exec_driver_sql(
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters
    ).scalar_one()
    return _own_pages(explained["Plan"])


def _pages(node: dict[str, Any]) -> int:
    return int(node["Shared Hit Blocks"] + node["Shared Read Blocks"])


def _own_pages(node: dict[str, Any]) -> int:
    """All pages under a node: its own count holds its children's, but not those of CTEs that write after the end."""
    children = node.get("Plans", [])
    return max(_pages(node) - sum(map(_pages, children)), 0) + sum(map(_own_pages, children))
