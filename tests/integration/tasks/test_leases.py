"""Leases: what a process learns when it renews."""

from datetime import datetime, timedelta

from sqlalchemy import func, select, update

from mesh.db.tables import steps, workers
from mesh.tasks.leases import Holder, Leases
from tests.builders import decision, subtask
from tests.integration.tasks.core import ANN, WORKER, Core

HOLDER = Holder(WORKER, "worker", "host", 1, ("agent.content",), 8)


def leases_until(core: Core) -> dict[str, timedelta]:
    """What is left of each lease, by the database's clock."""
    with core.database.begin() as work:
        rows = work.connection.execute(select(workers.c.id, workers.c.lease_until - func.now()))
        return {row.id: row[1] for row in rows}


def test_renewing_makes_and_extends_a_lease(core: Core) -> None:
    Leases(core.database, lease=timedelta(seconds=5)).renew(HOLDER, [])
    assert leases_until(core)[WORKER] <= timedelta(seconds=5)
    Leases(core.database, lease=timedelta(seconds=60)).renew(HOLDER, [])
    assert timedelta(seconds=50) < leases_until(core)[WORKER] <= timedelta(seconds=60)


def test_a_lease_that_was_removed_after_a_long_outage_comes_back(core: Core) -> None:
    leases = Leases(core.database)
    leases.renew(HOLDER, [])
    leases.release(HOLDER)
    assert leases_until(core) == {}
    leases.renew(HOLDER, [])
    assert set(leases_until(core)) == {WORKER}


def test_a_process_learns_which_of_its_steps_were_cancelled_or_given_away(core: Core) -> None:
    cancelled = core.submit(core.network()).task_id
    lost = core.claim()
    core.tasks.cancel(ANN, core.task(cancelled).network_id, cancelled)
    core.submit(core.network("content"))
    core.finish(core.claim(), decision(subtask("a"), subtask("b")))
    kept, taken = core.claim("content"), core.claim("content")
    with core.database.begin() as work:
        work.connection.execute(update(steps).where(steps.c.id == taken.step_id).values(attempt=2))
    running = [(claim.step_id, claim.attempt) for claim in (lost, kept, taken)]
    renewal = Leases(core.database).renew(HOLDER, running)
    assert sorted(renewal.lost) == sorted([running[0], running[2]])
    assert renewal.orphans == []


def test_a_step_counts_as_held_without_being_run_only_after_a_while(core: Core) -> None:
    core.submit(core.network())
    core.clock.advance((database_now(core) - core.clock()).total_seconds())
    claim = core.claim()
    assert Leases(core.database).renew(HOLDER, []).orphans == []
    with core.database.begin() as work:
        work.connection.execute(update(steps).values(started_at=func.now() - timedelta(seconds=6)))
    assert Leases(core.database).renew(HOLDER, []).orphans == [(claim.step_id, claim.attempt)]


def database_now(core: Core) -> datetime:
    with core.database.begin() as work:
        return work.connection.execute(select(func.now())).scalar_one()
