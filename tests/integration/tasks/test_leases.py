"""Leases: what a process learns when it renews."""

from datetime import datetime, timedelta

import pytest
from sqlalchemy import Engine, func, select, update

from mesh.db.leader import SessionLock
from mesh.db.tables import steps, workers
from mesh.tasks.leases import LEASE, Holder, Leases, end_leases_of_the_dead
from tests.builders import decision, subtask
from tests.integration.tasks.core import ANN, WORKER, Core, until

HOLDER = Holder(WORKER, "worker", "host", 1, ("agent.content",), 8)


def leases_until(core: Core) -> dict[str, timedelta]:
    """What is left of each lease, by the database's clock."""
    with core.database.begin() as work:
        rows = work.connection.execute(select(workers.c.id, workers.c.lease_until - func.now()))
        return {row.id: row[1] for row in rows}


def test_renewing_makes_and_extends_a_lease(core: Core) -> None:
    Leases(core.database, core.clock, lease=timedelta(seconds=5)).renew(HOLDER, [])
    assert leases_until(core)[WORKER] <= timedelta(seconds=5)
    Leases(core.database, core.clock, lease=timedelta(seconds=60)).renew(HOLDER, [])
    assert timedelta(seconds=50) < leases_until(core)[WORKER] <= timedelta(seconds=60)


def test_a_lease_that_was_removed_after_a_long_outage_comes_back(core: Core) -> None:
    leases = Leases(core.database, core.clock)
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
    renewal = Leases(core.database, core.clock).renew(HOLDER, running)
    assert sorted(renewal.lost) == sorted([running[0], running[2]])
    assert renewal.orphans == []


@pytest.mark.parametrize("ahead_seconds", [-3600, 3600])
def test_a_step_counts_as_held_without_being_run_only_after_a_while(core: Core, ahead_seconds: float) -> None:
    """By the clock of the process that claimed it, however far that is from the database's."""
    core.submit(core.network())
    core.clock.advance((database_now(core) - core.clock()).total_seconds() + ahead_seconds)
    claim = core.claim()
    core.clock.advance(4)
    assert Leases(core.database, core.clock).renew(HOLDER, []).orphans == []
    core.clock.advance(2)
    assert Leases(core.database, core.clock).renew(HOLDER, []).orphans == [(claim.step_id, claim.attempt)]


LATE = timedelta(seconds=9)  # since the last renewal of a lease of 15 s: 6


def silent(core: Core, engine: Engine) -> SessionLock:
    """The worker's lock; its lease was not renewed for 6 s."""
    life = SessionLock(engine, WORKER)
    Leases(core.database, core.clock, lease=LATE).renew(HOLDER, [], locked=life.held())
    return life


def end_leases(core: Core) -> timedelta:
    """What the sweep does; answers what is left of the lease then."""
    with core.database.begin() as work:
        end_leases_of_the_dead(work.connection)
    return leases_until(core)[WORKER]


def test_the_lease_of_a_worker_that_died_ends_early(core: Core, engine: Engine) -> None:
    silent(core, engine).resign()
    until(lambda: end_leases(core) <= timedelta(0))


def test_a_worker_that_is_only_late_keeps_its_lease(core: Core, engine: Engine) -> None:
    """It was stopped, or computes: its process lives, and so does its session."""
    life = silent(core, engine)
    assert end_leases(core) > timedelta(seconds=5)
    life.resign()


def test_a_worker_without_a_lock_keeps_its_lease_to_the_end(core: Core) -> None:
    """Of a version before there were locks, or with its session broken: a free lock says nothing about it."""
    Leases(core.database, core.clock, lease=LATE).renew(HOLDER, [])
    assert end_leases(core) > timedelta(seconds=5)


def test_a_worker_whose_session_broke_keeps_its_lease_while_it_renews_it(core: Core) -> None:
    Leases(core.database, core.clock, lease=LEASE - timedelta(seconds=3)).renew(HOLDER, [], locked=True)
    assert end_leases(core) > timedelta(seconds=5)


def database_now(core: Core) -> datetime:
    with core.database.begin() as work:
        return work.connection.execute(select(func.now())).scalar_one()
