"""The purge: what belongs to deleted networks, and answers kept long enough, in small transactions: nobody waits."""

from collections.abc import Callable, Sequence

import structlog
from sqlalchemy import Column, ColumnElement, Connection, delete, exists, func, select, true

from mesh.costs.budgets import Kind
from mesh.db.idempotency import KEPT_FOR
from mesh.db.tables import budgets, idempotency_keys, memories, network_counts, networks, tasks
from mesh.db.unit_of_work import Database
from mesh.tasks.states import ENDED_TASKS

log = structlog.get_logger(__name__)

BATCH = 200

_ANY = true()


class Purge:
    """Removes tasks (with their steps and events), memory and agents of deleted networks; never the ledger.

    And the answers kept for requests that were sent under an idempotency key, a day later.  `stop_tasks` ends all tasks
    of a network that is deleted.
    """

    def __init__(self, database: Database, stop_tasks: Callable[[str], None]) -> None:
        self._database = database
        self._stop_tasks = stop_tasks

    def run(self) -> int:
        """Remove everything that is due; answers how many networks are gone for good.

        Several may run at once: each batch skips what another one holds.
        """
        for network_id in self._not_stopped():
            self._stop_tasks(network_id)
        # Only what has ended: of a network deleted just now, readers of streams are still to hear it.
        ended = tasks.c.status.in_(ENDED_TASKS)
        while self._remove_batch(tasks.c.id, tasks.c.network_id, ended) or self._remove_batch(
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

    def _not_stopped(self) -> Sequence[str]:
        """Deleted networks where tasks still go on: whoever deleted them died (ix_networks_deleted)."""
        of_it = tasks.c.network_id == networks.c.id  # ix_tasks_network_id_status_id
        going_on = exists().where(of_it, tasks.c.status.not_in(ENDED_TASKS))
        query = select(networks.c.id).where(networks.c.deleted_at.is_not(None), going_on).order_by(networks.c.id)
        with self._database.begin() as work:
            return work.connection.execute(query).scalars().all()

    def _forget_answers(self) -> int:
        """Remove up to a batch of answers that are too old to be given again (ix_idempotency_keys_created_at)."""
        old = select(idempotency_keys.c.id).where(idempotency_keys.c.created_at < func.now() - KEPT_FOR)
        batch = old.limit(BATCH).with_for_update(skip_locked=True)
        with self._database.begin() as work:
            return work.connection.execute(delete(idempotency_keys).where(idempotency_keys.c.id.in_(batch))).rowcount

    def _remove_batch(self, key: Column[str], network_id: Column[str], due: ColumnElement[bool] = _ANY) -> int:
        """Remove up to a batch of rows whose network is deleted (ix_networks_deleted)."""
        deleted = select(networks.c.id).where(networks.c.deleted_at.is_not(None))
        batch = select(key).where(network_id.in_(deleted), due).limit(BATCH).with_for_update(skip_locked=True)
        with self._database.begin() as work:
            gone = work.connection.execute(delete(key.table).where(key.in_(batch)).returning(key)).scalars().all()
            _remove_budgets(work.connection, gone)
            return len(gone)


def _remove_budgets(connection: Connection, subject_ids: Sequence[str]) -> None:
    """Budgets of tasks and networks go with them; ids of other things match none."""
    kinds = (f"{kind}:{subject_id}" for subject_id in subject_ids for kind in (Kind.TASK, Kind.NETWORK))
    connection.execute(delete(budgets).where(budgets.c.id.in_(list(kinds))))
