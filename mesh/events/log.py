"""The event log: rows with a dense number a task.

append() is called inside the transaction that makes the event true, by whoever holds the task's row lock:
that lock is what makes the numbers dense.  Rows hold an event's own fields; ids, number and time join them on reading.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from mesh.clock import to_wire
from mesh.db.prepared import Prepared
from mesh.db.unit_of_work import Database
from mesh.events.types import Event


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as it stands on the wire: `data` holds ids, number, timestamp and the event's own fields."""

    sequence: int
    type: str
    data: dict[str, Any]


# SQL for the events of a `Batch`.
GIVEN = "CAST(:events AS jsonb)"


def appending(condition: str = "", *, events: str = GIVEN) -> str:
    """The CTEs that store a `Batch`: `numbered` (the task's row, with the number `before` the first) and `logged`.

    `condition` is SQL for "only if"; without a row in `numbered` nothing was stored.  `events` is SQL for what is
    stored, if that is not as it was given.  For statements that do more in one round trip: while the task's row is
    locked, the task's other steps wait.
    """
    return f"""
    numbered AS (
        UPDATE tasks SET last_sequence = last_sequence + :count
        WHERE id = :task_id {f"AND {condition}" if condition else ""}
        RETURNING id, network_id, owner, priority, status, run, iterations, last_sequence,
            last_sequence - :count AS before
    ), {logging(events)}"""  # noqa: S608  # built from constants of ours


def logging(events: str = GIVEN) -> str:
    """The CTE `logged`, which stores a `Batch` after the number `before` of `numbered`: the task's row."""
    return f"""logged AS (
        INSERT INTO events (task_id, sequence, type, data, created_at)
        SELECT :task_id, numbered.before + new.place, new.type, new.data, :now
        FROM numbered,
             ROWS FROM (jsonb_to_recordset({events}) AS (type text, data jsonb))
                 WITH ORDINALITY AS new (type, data, place)
    )"""  # noqa: S608  # built from constants of ours


# Divides by zero, which fails the transaction, when something else was appended since the task's row was read.
_APPEND = Prepared(
    f"WITH {appending('last_sequence = :before')} SELECT 1 / count(*) FROM numbered",  # noqa: S608  # as above
    count="int",
    before="int",
    events="jsonb",
    now="timestamptz",
)

# Primary key, in its order.
_AFTER = text(
    """
    SELECT events.sequence, events.type, events.data, events.created_at, tasks.network_id
    FROM events JOIN tasks ON tasks.id = events.task_id
    WHERE events.task_id = :task_id AND events.sequence > :sequence
    ORDER BY events.sequence LIMIT :limit
    """
)

# Primary key.
_TASK = text("SELECT FROM tasks WHERE id = :task_id")

_OPENING = text("SELECT max(sequence) FROM events WHERE task_id = :task_id AND type = 'started'")

_LAST = text("SELECT sequence, type FROM events WHERE task_id = :task_id ORDER BY sequence DESC LIMIT 1")


class Batch:
    """Events of one task that are stored together."""

    def __init__(self, task_id: str, events: Sequence[Event], *, at: datetime) -> None:
        self._task_id = task_id
        self._events = [(event.type, event.fields()) for event in events]
        self._at = at

    def values(self) -> dict[str, Any]:
        """The parameters of `appending`."""
        events = json.dumps([{"type": type_, "data": data} for type_, data in self._events])
        return {"task_id": self._task_id, "count": len(self._events), "events": events, "now": self._at}

    def stored(self, network_id: str, before: int) -> list[StoredEvent]:
        """The events with their numbers, from what `numbered` answered."""
        return [
            StoredEvent(number, type_, _wire(self._task_id, network_id, number, self._at, data))
            for number, (type_, data) in enumerate(self._events, start=before + 1)
        ]


def append(connection: Connection, task: Row[Any], new: Sequence[Event], *, at: datetime) -> list[StoredEvent]:
    """Store `new` as the next events of `task`, in their order; answers them with their numbers.

    `task` is the task's row as it is under its lock, which the caller holds.  They are stored by the commit.
    """
    if not new:
        return []
    batch = Batch(task.id, new, at=at)
    _APPEND.send(connection, {**batch.values(), "before": task.last_sequence})
    return batch.stored(task.network_id, before=task.last_sequence)


def _wire(task_id: str, network_id: str, sequence: int, at: datetime, fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "task_id": task_id,
        "network_id": network_id,
        "sequence": sequence,
        "timestamp": to_wire(at),
        **fields,
    }


class EventLog:
    """Reading stored events, for streams."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def after(self, task_id: str, sequence: int, limit: int = 500) -> list[StoredEvent]:
        """Events numbered above `sequence`, in order, at most `limit`."""
        values = {"task_id": task_id, "sequence": sequence, "limit": limit}
        with self._database.begin(atomic=False) as work:
            return [
                StoredEvent(
                    row.sequence, row.type, _wire(task_id, row.network_id, row.sequence, row.created_at, row.data)
                )
                for row in work.connection.execute(_AFTER, values)
            ]

    def has_task(self, task_id: str) -> bool:
        """Whether the task is still there, with or without events."""
        with self._database.begin(atomic=False) as work:
            return work.connection.execute(_TASK, {"task_id": task_id}).first() is not None

    def opening(self, task_id: str) -> int:
        """The position just before the latest `started`: where a stream without a position begins; 0 if none."""
        with self._database.begin(atomic=False) as work:
            latest = work.connection.execute(_OPENING, {"task_id": task_id}).scalar()
        return latest - 1 if latest else 0

    def last(self, task_id: str) -> int:
        """The number of the last stored event; 0 if none."""
        with self._database.begin(atomic=False) as work:
            return work.connection.execute(_LAST, {"task_id": task_id}).scalar() or 0

    def ended_at(self, task_id: str) -> int | None:
        """The number of the last stored event if that is `complete`: nothing follows it unless the task is resumed."""
        with self._database.begin(atomic=False) as work:
            last = work.connection.execute(_LAST, {"task_id": task_id}).first()
        return last.sequence if last and last.type == "complete" else None
