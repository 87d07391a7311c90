"""The event log: rows with a dense number a task.

append() is called inside the transaction that makes the event true, by whoever holds the task's row lock:
that lock is what makes the numbers dense.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from mesh.clock import to_wire
from mesh.db.tables import events, tasks
from mesh.db.unit_of_work import Database
from mesh.events.types import Event


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as it stands on the wire: `data` holds ids, number, timestamp and the event's own fields."""

    sequence: int
    type: str
    data: dict[str, Any]


def append(
    connection: Connection, task_id: str, network_id: str, new: Sequence[Event], *, at: datetime
) -> list[StoredEvent]:
    """Store `new` as the task's next events, in their order; answers them with their numbers.

    Takes the task's row lock until the transaction ends.
    """
    if not new:
        return []
    last = connection.execute(
        update(tasks)
        .where(tasks.c.id == task_id)
        .values(last_sequence=tasks.c.last_sequence + len(new))
        .returning(tasks.c.last_sequence)
    ).scalar_one()
    stored = [
        StoredEvent(number, event.type, _wire(task_id, network_id, number, at, event))
        for number, event in enumerate(new, start=last - len(new) + 1)
    ]
    connection.execute(
        insert(events),
        [
            {"task_id": task_id, "sequence": one.sequence, "type": one.type, "data": one.data, "created_at": at}
            for one in stored
        ],
    )
    return stored


def _wire(task_id: str, network_id: str, sequence: int, at: datetime, event: Event) -> dict[str, Any]:
    return {
        "task_id": task_id,
        "network_id": network_id,
        "sequence": sequence,
        "timestamp": to_wire(at),
        **event.fields(),
    }


class EventLog:
    """Reading stored events, for streams."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def after(self, task_id: str, sequence: int, limit: int = 500) -> list[StoredEvent]:
        """Events numbered above `sequence`, in order, at most `limit` (primary key range)."""
        query = (
            select(events.c.sequence, events.c.type, events.c.data)
            .where(events.c.task_id == task_id, events.c.sequence > sequence)
            .order_by(events.c.sequence)
            .limit(limit)
        )
        with self._database.begin() as work:
            return [StoredEvent(*row) for row in work.connection.execute(query)]

    def opening(self, task_id: str) -> int:
        """The position just before the latest `started`: where a stream without a position begins; 0 if none."""
        query = select(func.max(events.c.sequence)).where(events.c.task_id == task_id, events.c.type == "started")
        with self._database.begin() as work:
            latest = work.connection.execute(query).scalar()
        return latest - 1 if latest else 0

    def ended_at(self, task_id: str) -> int | None:
        """The number of the last stored event if that is `complete`: nothing follows it unless the task is resumed."""
        query = (
            select(events.c.sequence, events.c.type)
            .where(events.c.task_id == task_id)
            .order_by(events.c.sequence.desc())
            .limit(1)
        )
        with self._database.begin() as work:
            last = work.connection.execute(query).first()
        return last.sequence if last and last.type == "complete" else None
