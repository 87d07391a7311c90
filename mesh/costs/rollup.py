"""The rollup: closes the ledger's books, so that statistics add up hours instead of calls.

beat -> workers.jobs.control -> here -> mesh.costs.statistics.  A row's flag says whether `usage_hourly` and
`usage_daily` have it, and all change in one transaction; there is no watermark that a late commit could be missed
behind.
"""

from datetime import timedelta

import structlog
from sqlalchemy import text

from mesh.clock import Clock
from mesh.db.unit_of_work import Database

log = structlog.get_logger(__name__)

# How long the ledger may still correct a call of unknown end by a late reply.
OPEN_BOOKS = timedelta(minutes=15)
BATCH = 5_000

_SUMS = {
    "settled": "count(*) FILTER (WHERE state = 'settled')",
    "failed": "count(*) FILTER (WHERE state = 'failed')",
    "cancelled": "count(*) FILTER (WHERE state = 'cancelled')",
    "cost_usd": "sum(cost_usd)",
    "latency_seconds": "coalesce(sum(latency_seconds) FILTER (WHERE state = 'settled'), 0)",
}


def _more(table: str) -> str:
    """What a row that is there already becomes."""
    return ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in _SUMS)


# ix_model_calls_open_books.  Two at once insert in the order of the key, so that neither waits for the other in a ring.
_CLOSE = text(
    f"""
    WITH batch AS (
        SELECT id FROM model_calls WHERE NOT rolled AND ended_at < :before
        ORDER BY ended_at LIMIT :batch FOR UPDATE SKIP LOCKED
    ), closed AS (
        UPDATE model_calls SET rolled = true FROM batch WHERE model_calls.id = batch.id
        RETURNING model_calls.*
    ), hours AS (
        INSERT INTO usage_hourly
            (user_id, hour, network_id, key_id, agent_type, model, {", ".join(_SUMS)})
        SELECT user_id, date_trunc('hour', ended_at, 'UTC'), coalesce(network_id, ''), coalesce(key_id, ''),
            coalesce(agent_type, ''), model, {", ".join(_SUMS.values())}
        FROM closed GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6
        ON CONFLICT (user_id, hour, network_id, key_id, agent_type, model)
            DO UPDATE SET {_more("usage_hourly")}
    ), days AS (
        INSERT INTO usage_daily (user_id, day, network_id, model, {", ".join(_SUMS)})
        SELECT user_id, date_trunc('day', ended_at, 'UTC'), coalesce(network_id, ''), model, {", ".join(_SUMS.values())}
        FROM closed GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
        ON CONFLICT (user_id, day, network_id, model) DO UPDATE SET {_more("usage_daily")}
    )
    SELECT count(*) FROM closed
    """  # noqa: S608  # built from constants of ours
)


class Rollup:
    """Adds ended calls to `usage_hourly` and `usage_daily`."""

    def __init__(self, database: Database, clock: Clock, *, batch: int = BATCH) -> None:
        """`batch` calls are closed in one transaction."""
        self._database = database
        self._clock = clock
        self._batch = batch

    def run(self) -> int:
        """Close the books of all calls that ended more than 15 minutes ago; answers how many.

        Several may run at once: each batch, a transaction of its own, skips what another one holds.
        """
        before = self._clock() - OPEN_BOOKS
        total, closed = 0, self._batch
        while closed == self._batch:
            with self._database.begin(atomic=False) as work:
                closed = work.connection.execute(_CLOSE, {"before": before, "batch": self._batch}).scalar_one()
            total += closed
        if total:
            log.info("calls_rolled_up", count=total)
        return total
