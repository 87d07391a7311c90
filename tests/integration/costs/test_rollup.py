"""The rollup: every call is added once, whoever else does so at the same time and whenever it is killed."""

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import text

from mesh.costs import ledger
from mesh.costs.ledger import Bill
from mesh.costs.rollup import OPEN_BOOKS, Rollup
from mesh.db.unit_of_work import Database
from mesh.testing import FakeClock
from tests.builders import NOW
from tests.integration.costs.calls import Call, made_up, store

SUMS = """
    SELECT user_id, date_trunc('hour', ended_at, 'UTC'), coalesce(network_id, ''), coalesce(key_id, ''),
        coalesce(agent_type, ''), model, count(*) FILTER (WHERE state = 'settled'),
        count(*) FILTER (WHERE state = 'failed'), count(*) FILTER (WHERE state = 'cancelled'), sum(cost_usd)
    FROM model_calls WHERE rolled GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6
"""
ROLLED = """
    SELECT user_id, hour, network_id, key_id, agent_type, model, settled, failed, cancelled, cost_usd
    FROM usage_hourly ORDER BY 1, 2, 3, 4, 5, 6
"""
ROLLED_BY_DAY = """
    SELECT user_id, date_trunc('day', hour, 'UTC'), network_id, model,
        sum(settled), sum(failed), sum(cancelled), sum(cost_usd)
    FROM usage_hourly GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""
DAILY = """
    SELECT user_id, day, network_id, model, settled, failed, cancelled, cost_usd FROM usage_daily ORDER BY 1, 2, 3, 4
"""


def assert_books_are_right(database: Database) -> None:
    assert rows(database, ROLLED) == rows(database, SUMS)
    assert rows(database, DAILY) == rows(database, ROLLED_BY_DAY)


def rows(database: Database, query: str) -> list[tuple[Any, ...]]:
    with database.begin() as work:
        return [tuple(row) for row in work.connection.execute(text(query))]


def open_books(database: Database) -> int:
    return int(rows(database, "SELECT count(*) FROM model_calls WHERE NOT rolled")[0][0])


def test_several_at_once_add_every_ended_call_exactly_once(database: Database, clock: FakeClock) -> None:
    rollup = Rollup(database, clock, batch=20)
    calls = made_up(random.Random(2), start=NOW, hours=30, count=300, networks=["network_1"])
    store(database, calls)
    clock.advance(31 * 3600)
    with ThreadPoolExecutor(4) as workers:
        closed = sum(future.result() for future in [workers.submit(rollup.run) for _ in range(4)])
    closed += rollup.run()
    ended = sum(call.ended_at is not None for call in calls)
    assert (closed, open_books(database)) == (ended, len(calls) - ended)
    assert_books_are_right(database)
    assert rollup.run() == 0


def test_what_ended_within_the_last_15_minutes_is_left_open(
    database: Database, rollup: Rollup, clock: FakeClock
) -> None:
    store(database, [Call(NOW)])
    clock.advance(OPEN_BOOKS.total_seconds())
    assert rollup.run() == 0
    clock.advance(0.001)
    assert rollup.run() == 1


def test_a_call_that_is_stored_late_is_added_to_its_hour(database: Database, rollup: Rollup, clock: FakeClock) -> None:
    clock.advance(3600)
    for _ in range(2):
        store(database, [Call(NOW)])
        assert rollup.run() == 1
    assert rows(database, "SELECT settled, cost_usd FROM usage_hourly") == [(2, Decimal("0.002"))]


def test_what_is_held_by_others_is_skipped_and_found_the_next_time(
    database: Database, rollup: Rollup, clock: FakeClock
) -> None:
    store(database, [Call(NOW), Call(NOW + timedelta(seconds=1))])
    clock.advance(3600)
    with ThreadPoolExecutor(1) as worker, database.begin() as work:
        work.connection.execute(text("SELECT FROM model_calls ORDER BY ended_at LIMIT 1 FOR UPDATE"))
        assert worker.submit(rollup.run).result(timeout=5) == 1
    assert rollup.run() == 1
    assert_books_are_right(database)


def test_a_batch_that_breaks_off_leaves_nothing_behind(database: Database, rollup: Rollup, clock: FakeClock) -> None:
    store(database, [Call(NOW)])
    clock.advance(3600)
    with database.begin() as work:
        work.connection.execute(text("ALTER TABLE usage_hourly ADD CONSTRAINT no CHECK (settled = 0)"))
    with pytest.raises(Exception, match="usage_hourly"):
        rollup.run()
    assert (open_books(database), rows(database, ROLLED)) == (1, [])


def test_a_late_reply_changes_a_call_until_it_is_rolled_up_and_never_after(
    database: Database, rollup: Rollup, clock: FakeClock
) -> None:
    store(database, [Call(NOW, state="cancelled")])
    with database.begin() as work:
        work.connection.execute(text("UPDATE model_calls SET estimated = true"))
    [(call_id,)] = rows(database, "SELECT id FROM model_calls")
    clock.advance(3600)
    rollup.run()
    with database.begin() as work:
        bill = Bill(1, 1, 0, 0, Decimal(7))
        ledger.close_billed(work.connection, call_id, bill, seconds=1.0, state="settled", error_code=None, now=clock())
    assert rows(database, "SELECT state, cost_usd FROM model_calls") == [("cancelled", Decimal("0.001"))]
    assert_books_are_right(database)
