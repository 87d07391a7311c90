"""Claims: which ready step of a queue runs next, settled in one statement.

Fair between owners, then priority, then age, as start-time fair queueing does it (Goyal, Vin, Cheng: "Start-time
Fair Queueing", SIGCOMM 1996).  A step that becomes ready is given a turn:

    the greater of   the queue's present turn + 1   (a newcomer stands half a turn behind the front)
    and              its owner's last turn + 2      (one step of an owner a turn)

so ten thousand steps of one owner take ten thousand turns, and another owner's single step the next one.  That a
newcomer stands *behind* the front makes the front move on while newcomers keep coming: nobody starves.  A claim takes
the first turn, which says *whose* step runs; which one of that owner's it is, priority and age decide, and the step
that had the turn takes over the other's.  No row is locked by every claim: rows that others hold are skipped.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from mesh.db.prepared import Prepared

TURN = 2
NEWCOMER = 1


def next_turn(row: str) -> str:
    """SQL for the turn of the row aliased `row` (which has `queue` and `owner`), as it becomes ready.

    Three single-row index look-ups: the first ready turn and the last running one (`ix_steps_turn`), and the
    owner's last (`ix_steps_owner_turn`).
    """
    return f"""greatest(
        coalesce(
            (SELECT front.turn + {NEWCOMER} FROM steps front
             WHERE front.queue = {row}.queue AND front.state = 'ready' AND front.turn IS NOT NULL
             ORDER BY front.turn LIMIT 1),
            (SELECT front.turn FROM steps front
             WHERE front.queue = {row}.queue AND front.state = 'running' AND front.turn IS NOT NULL
             ORDER BY front.turn DESC LIMIT 1),
            0),
        (SELECT own.turn + {TURN} FROM steps own
         WHERE own.queue = {row}.queue AND own.owner = {row}.owner AND own.state IN ('ready', 'running')
           AND own.turn IS NOT NULL
         ORDER BY own.turn DESC LIMIT 1))"""  # noqa: S608  # built from constants and an alias only


@dataclass(frozen=True, slots=True)
class Claim:
    """A step that is this worker's to run; `attempt` is the fence of everything it writes."""

    step_id: str
    task_id: str
    owner: str
    queue: str
    kind: str
    iteration: int
    key: str
    agent_id: str
    agent_name: str
    agent_type: str
    description: str
    depends_on: Sequence[str]
    attempt: int
    failures: int


# `turn` scans ix_steps_turn from its front, `best` ix_steps_owner_best; both stop at the first row nobody else holds.
# Both are written where they were found; one that moved in between, by a commit that came in before its lock, is not
# found there, and the claim comes to nothing.
# The commit waits for the disk: a claim that a crash undid would give its attempt, which is the fence, to two workers.
_CLAIM = Prepared(
    """
    WITH turn AS (
        SELECT ctid AS place, id, owner, turn FROM steps
        WHERE queue = :queue AND state = 'ready' AND turn IS NOT NULL
        ORDER BY turn, id LIMIT 1
        FOR UPDATE SKIP LOCKED
    ), best AS (
        SELECT ctid AS place, id, turn FROM steps
        WHERE queue = :queue AND owner = (SELECT owner FROM turn) AND state = 'ready' AND turn IS NOT NULL
        ORDER BY priority DESC, id LIMIT 1
        FOR UPDATE SKIP LOCKED
    ), claimed AS (
        UPDATE steps
        SET state = 'running', attempt = attempt + 1, worker_id = :worker_id, started_at = :now,
            turn = (SELECT turn FROM turn)
        WHERE ctid = (SELECT place FROM best) AND EXISTS (SELECT FROM steps WHERE ctid = (SELECT place FROM turn))
        RETURNING id AS step_id, task_id, owner, queue, kind, iteration, key, agent_id, agent_name, agent_type,
            description, depends_on, attempt, failures
    ), swapped AS (
        UPDATE steps SET turn = (SELECT turn FROM best)
        WHERE ctid = (SELECT place FROM turn) AND (SELECT step_id FROM claimed) <> (SELECT id FROM turn)
    )
    SELECT * FROM claimed
    """,
    now="timestamptz",
)


def claim(connection: Connection, *, queue: str, worker_id: str, now: datetime) -> Claim | None:
    """Take the next step of `queue` for `worker_id`; None: there is none that nobody holds.

    Until it commits, a claim holds up to two rows, one of which it leaves: where a step still `waits`, try again.
    """
    found = _CLAIM.execute(connection, {"queue": queue, "worker_id": worker_id, "now": now}).first()
    return None if found is None else Claim(**found._mapping)


_WAITING = Prepared(
    "SELECT true FROM steps WHERE queue = :queue AND state = 'ready' AND turn IS NOT NULL ORDER BY turn LIMIT 1"
)


def waits(connection: Connection, queue: str) -> bool:
    """Whether a step of `queue` is ready (ix_steps_turn).

    Without an order, or as EXISTS, the planner reads the table from its start, which is long when its statistics are
    behind.
    """
    return _WAITING.execute(connection, {"queue": queue}).first() is not None


def inserting(rows: str) -> str:
    """SQL that stores `rows`: a JSON array, each by the names of the columns.

    Each ready one gets a turn as it is stored; several of one owner in one queue get one after the other.
    """
    return f"""
    INSERT INTO steps (
        id, task_id, owner, queue, kind, iteration, key, agent_id, agent_name, agent_type, description, depends_on,
        state, priority, turn, error, attempt, failures, losses, created_at)
    SELECT
        id, task_id, owner, queue, kind, iteration, key, agent_id, agent_name, agent_type, description, depends_on,
        state, priority,
        CASE WHEN state = 'ready' THEN {next_turn("new")}
            + {TURN} * (row_number() OVER (PARTITION BY queue, owner, state ORDER BY id) - 1) END,
        error, 0, 0, 0, :now
    FROM jsonb_to_recordset({rows}) AS new (
        id text, task_id text, owner text, queue text, kind text, iteration int, key text, agent_id text,
        agent_name text, agent_type text, description text, depends_on text[], state text, priority smallint,
        error jsonb)
    """  # noqa: S608  # built from constants only


_INSERT = Prepared(inserting(":steps"), steps="jsonb", now="timestamptz")


def insert_steps(connection: Connection, rows: Sequence[Mapping[str, Any]], *, now: datetime) -> list[str]:
    """Store new steps (rows by the names of the columns), by the commit; answers the queue of each that is ready."""
    _INSERT.send(connection, {"steps": json.dumps(rows), "now": now})
    return [row["queue"] for row in rows if row["state"] == "ready"]


_READY = Prepared(
    f"""
    UPDATE steps
    SET state = 'ready', not_before = NULL, worker_id = NULL,
        turn = {next_turn("steps")} + {TURN} * (placed.place - 1)
    FROM (SELECT id, row_number() OVER (PARTITION BY queue, owner ORDER BY id) AS place
          FROM steps WHERE id = ANY(:ids)) placed
    WHERE steps.id = placed.id AND steps.state = ANY(:from_states)
    RETURNING steps.queue
    """,  # noqa: S608  # built from constants only
    ids="text[]",
    from_states="text[]",
)


def make_ready(connection: Connection, step_ids: Sequence[str], *, from_states: Sequence[str]) -> list[str]:
    """Queue steps that are in one of `from_states`; answers the queue of each that was."""
    if not step_ids:
        return []
    rows: Any = _READY.execute(connection, {"ids": list(step_ids), "from_states": list(from_states)})
    return [row.queue for row in rows]


# ix_steps_parked.
_DUE = text(
    """
    SELECT id FROM steps WHERE state = 'ready' AND turn IS NULL AND not_before <= :now
    ORDER BY not_before LIMIT 500 FOR UPDATE SKIP LOCKED
    """
)


def unpark(connection: Connection, *, now: datetime) -> None:
    """Queue the steps whose `not_before` has come; each gets a turn of its own."""
    due = connection.execute(_DUE, {"now": now}).scalars().all()
    make_ready(connection, due, from_states=["ready"])


# Distinct queues by hopping along ix_steps_turn: one look-up a queue, however many steps wait in each.
HOP = """
    WITH RECURSIVE hop AS (
        (SELECT queue FROM steps WHERE state = 'ready' AND turn IS NOT NULL AND queue > '' ORDER BY queue LIMIT 1)
        UNION ALL
        SELECT (SELECT queue FROM steps WHERE state = 'ready' AND turn IS NOT NULL AND queue > hop.queue
                ORDER BY queue LIMIT 1)
        FROM hop WHERE hop.queue IS NOT NULL
    )
"""

WAITING_QUEUES = text(f"{HOP} SELECT queue FROM hop WHERE queue IS NOT NULL")  # noqa: S608  # a constant
