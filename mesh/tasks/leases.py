"""Leases: a process's row in `workers`, which is what its running steps live by.

workers.heartbeat -> here.  Leases go by the database's clock, so that machines need not agree on the time.  A worker
also holds a lock with its id, which the server frees at once when the process dies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import structlog
from sqlalchemy import Connection, delete, text

from mesh.clock import Clock
from mesh.db.leader import number
from mesh.db.tables import workers
from mesh.db.unit_of_work import Database

log = structlog.get_logger(__name__)

# A worker that has not renewed for so long is dead, and its steps go to others.
LEASE = timedelta(seconds=15)


@dataclass(frozen=True)
class Holder:
    """One incarnation of a process; `slots` is how many steps it runs at once."""

    worker_id: str
    role: Literal["worker", "beat"]
    host: str
    pid: int
    queues: tuple[str, ...]
    slots: int


# Insert or renew: a row that was removed after a long outage comes back.
_RENEW = text(
    """
    WITH renewed AS (
        INSERT INTO workers (id, role, host, pid, queues, slots, started_at, lease_until, locked)
        VALUES (:id, :role, :host, :pid, :queues, :slots, now(), now() + :lease, :locked)
        ON CONFLICT (id) DO UPDATE SET lease_until = excluded.lease_until, locked = excluded.locked
    )
    SELECT mine.step_id, mine.attempt
    FROM unnest(CAST(:steps AS text[]), CAST(:attempts AS int[])) AS mine (step_id, attempt)
    LEFT JOIN steps ON steps.id = mine.step_id AND steps.attempt = mine.attempt AND steps.state = 'running'
    WHERE steps.id IS NULL
    """
)


@dataclass(frozen=True)
class Renewal:
    """What a process learns with its lease.

    `lost`: (step, attempt) that it runs and that are not its own any more.  `orphans`: those that count as its own and
    that it does not run, because the answer to their claim was lost.
    """

    lost: list[tuple[str, int]]
    orphans: list[tuple[str, int]]


# A claim's answer is in hand long before this.
_ORPHANED_AFTER = timedelta(seconds=5)

# Both instants by this process's clock, which may differ from the database's.  ix_steps_running
_ORPHANS = text(
    """
    SELECT id, attempt FROM steps
    WHERE worker_id = :id AND state = 'running' AND started_at < :claimed_before
      AND NOT id = ANY(CAST(:steps AS text[]))
    """
)


class Leases:
    """Renews and releases; `clock` is the one that this process claims by."""

    def __init__(self, database: Database, clock: Clock, *, lease: timedelta = LEASE) -> None:
        self._database = database
        self._clock = clock
        self._lease = lease

    def renew(self, holder: Holder, running: Sequence[tuple[str, int]], *, locked: bool = False) -> Renewal:
        """Extend the lease of `holder`, which runs `running` (step, attempt); `locked`: it holds the lock, too."""
        values = {
            "id": holder.worker_id,
            "role": holder.role,
            "host": holder.host,
            "pid": holder.pid,
            "queues": list(holder.queues),
            "slots": holder.slots,
            "lease": self._lease,
            "locked": locked,
            "steps": [step_id for step_id, _ in running],
            "attempts": [attempt for _, attempt in running],
        }
        claimed_before = self._clock() - _ORPHANED_AFTER
        with self._database.begin() as work:
            lost = work.connection.execute(_RENEW, values).all()
            orphans = work.connection.execute(_ORPHANS, {**values, "claimed_before": claimed_before}).all()
        return Renewal([(row.step_id, row.attempt) for row in lost], [(row.id, row.attempt) for row in orphans])

    def release(self, holder: Holder) -> None:
        """Give the lease up at a clean end: what still runs is anybody's at once."""
        with self._database.begin() as work:
            work.connection.execute(delete(workers).where(workers.c.id == holder.worker_id))


# Two renewals were missed.
_SILENT = timedelta(seconds=5)

# ix_workers_lease_until.  A renewal at the same time wins: it waits for the row, or the condition is checked again.
_END_OF_THE_DEAD = text(
    f"""
    UPDATE workers SET lease_until = now()
    WHERE lease_until > now() AND lease_until < now() + CAST(:left AS interval) AND locked
      AND pg_try_advisory_xact_lock({number("id")})
    RETURNING id
    """  # noqa: S608  # built from constants only
)


def end_leases_of_the_dead(connection: Connection, *, lease: timedelta = LEASE) -> None:
    """End the leases of workers that are silent and whose lock is free: those that died, not those that are late.

    One that held no lock when it last renewed - its session broke, or it is of a version that knows none - keeps its
    lease to the end.
    A network that was cut leaves the lock until the server notices, after about 10 s.  After a restart of the database
    all locks are free, so give every lease a fresh period first.
    """
    for worker_id in connection.execute(_END_OF_THE_DEAD, {"left": lease - _SILENT}).scalars():
        log.warning("worker_died", worker_id=worker_id)
