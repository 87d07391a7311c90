"""The purge: what belongs to deleted networks, and answers kept long enough, in small transactions: nobody waits."""

from collections.abc import Sequence

import structlog
from sqlalchemy import Column, Connection, delete, exists, func, select

from mesh.costs.budgets import Kind
from mesh.db.idempotency import KEPT_FOR
from mesh.db.tables import budgets, idempotency_keys, memories, network_counts, networks, tasks
from mesh.db.unit_of_work import Database

log = structlog.get_logger(__name__)

BATCH = 200


class Purge:
    """Removes tasks (with their steps and events), memory and agents of deleted networks; never the ledger.

    And the answers kept for requests that were sent under an idempotency key, a day later.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def run(self) -> int:
        """Remove everything that is due; answers how many networks are gone for good.

        Several may run at once: each batch skips what another one holds.
        """
        while self._remove_batch(tasks.c.id, tasks.c.network_id) or self._remove_batch(
            memories.c.id, memories.c.network_id
        ):
            pass
        while self._forget_answers():
            pass
        with self._database.begin() as work:
            empty = ~exists().where(tasks.c.network_id == networks.c.id) & ~exists().where(
                memories.c.network_id == networks.c.id
            )
            removal = delete(networks).where(networks.c.deleted_at.is_not(None), empty).returning(networks.c.id)
            gone = work.connection.execute(removal).scalars().all()
            _remove_budgets(work.connection, gone)
            work.connection.execute(delete(network_counts).where(network_counts.c.network_id.in_(gone)))
        if gone:
            log.info("networks_purged", count=len(gone))
        return len(gone)

    def _forget_answers(self) -> int:
        """Remove up to a batch of answers that are too old to be given again (ix_idempotency_keys_created_at)."""
        old = select(idempotency_keys.c.id).where(idempotency_keys.c.created_at < func.now() - KEPT_FOR)
        batch = old.limit(BATCH).with_for_update(skip_locked=True)
        with self._database.begin() as work:
            return work.connection.execute(delete(idempotency_keys).where(idempotency_keys.c.id.in_(batch))).rowcount

    def _remove_batch(self, key: Column[str], network_id: Column[str]) -> int:
        """Remove up to a batch of rows whose network is deleted (ix_networks_deleted)."""
        deleted = select(networks.c.id).where(networks.c.deleted_at.is_not(None))
        batch = select(key).where(network_id.in_(deleted)).limit(BATCH).with_for_update(skip_locked=True)
        with self._database.begin() as work:
            gone = work.connection.execute(delete(key.table).where(key.in_(batch)).returning(key)).scalars().all()
            _remove_budgets(work.connection, gone)
            return len(gone)


def _remove_budgets(connection: Connection, subject_ids: Sequence[str]) -> None:
    """Budgets of tasks and networks go with them; ids of other things match none."""
    kinds = (f"{kind}:{subject_id}" for subject_id in subject_ids for kind in (Kind.TASK, Kind.NETWORK))
    connection.execute(delete(budgets).where(budgets.c.id.in_(list(kinds))))
