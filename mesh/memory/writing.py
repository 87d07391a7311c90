"""SQL that stores items: as they are when a user gives them, or into what says the same already when an agent does.

service, tasks.orchestrator -> here.  Whatever is stored is put in the queue of what is to be embedded.
"""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from mesh.clock import to_wire
from mesh.memory.sameness import said
from mesh.memory.views import NewMemory, Source

MOST_SAID_AGAIN = 20
_ROOM = f"jsonb_array_length(memories.said_again) < {MOST_SAID_AGAIN}"


def remembering(source: str, *, merging: bool = False) -> str:
    """CTEs that store new items for the row of `source`, which has the `network_id`; `remembered` has their ids.

    With `merging`, what the network already holds in other letters is not stored once more: `same` then has the `id` of
    the new item and of the one that `stands`, which is noted to be said again (ix_memories_said).
    """
    given = f"""
    given AS (
        SELECT network_id, new.*
        FROM {source}, jsonb_to_recordset(CAST(:memories AS jsonb)) AS new (
            id text, type text, content text, said text, confidence float, metadata jsonb, pinned boolean,
            expires_at timestamptz)
    )"""  # noqa: S608  # built from constants of ours
    return f"""{given}, {_MERGING if merging else "fresh AS (SELECT id FROM given)"}, remembered AS (
        INSERT INTO memories (
            id, network_id, type, content, said, confidence, metadata, pinned, expires_at,
            source_kind, agent_id, task_id, version, created_at, updated_at)
        SELECT id, network_id, type, content, said, confidence, metadata, pinned, expires_at,
            :source_kind, :agent_id, :source_task_id, 1, :now, :now
        FROM given JOIN fresh USING (id)
        RETURNING id
    ), queued AS (
        INSERT INTO memories_to_embed (memory_id) SELECT id FROM remembered
        {"UNION SELECT stands FROM same WHERE confidence > before" if merging else ""}
        ON CONFLICT DO NOTHING
    )"""  # noqa: S608  # as above


def said_again(who: str) -> str:
    """SQL for the column with `who` (SQL for an object) added, unless it is full."""
    return f"CASE WHEN {_ROOM} THEN memories.said_again || jsonb_build_array({who}) ELSE memories.said_again END"


_WHO = """jsonb_build_object(
    'agent_id', CAST(:agent_id AS text), 'task_id', CAST(:source_task_id AS text), 'at', CAST(:said_at AS text),
    'memory_id', NULL)"""

# What expires does not stand for what does not.  What is said all the time is not written all the time: else all tasks
# of a network would wait for one row.
_MERGING = f"""
    same AS (
        SELECT given.id, given.confidence, standing.id AS stands, standing.confidence AS before
        FROM given CROSS JOIN LATERAL (
            SELECT id, confidence FROM memories
            WHERE memories.network_id = given.network_id AND memories.said = given.said AND memories.type = given.type
                AND memories.expires_at IS NULL
            ORDER BY id LIMIT 1) standing
    ), fresh AS (
        SELECT id FROM given WHERE id NOT IN (SELECT id FROM same)
    ), again AS (
        UPDATE memories SET confidence = greatest(memories.confidence, same.confidence), version = version + 1,
            updated_at = :now,
            said_again = {said_again(_WHO)}
        FROM same WHERE memories.id = same.stands AND (same.confidence > memories.confidence OR {_ROOM})
    )"""  # noqa: S608  # built from constants of ours


def remembering_values(items: Mapping[str, NewMemory], source: Source, *, now: datetime) -> dict[str, Any]:
    """The parameters of `remembering`, but for `now`; `items` by their ids."""
    rows = [
        {
            "id": memory_id,
            "type": item.type,
            "content": item.content,
            "said": said(item.content),
            "confidence": item.confidence,
            "metadata": dict(item.metadata),
            "pinned": item.pinned,
            "expires_at": expires_at.isoformat() if (expires_at := expiry(now, item.ttl_seconds)) else None,
        }
        for memory_id, item in items.items()
    ]
    origin = {"source_kind": source.kind, "agent_id": source.agent_id, "source_task_id": source.task_id}
    return {"memories": json.dumps(rows), **origin, "said_at": to_wire(now)}


def expiry(now: datetime, ttl_seconds: int | None) -> datetime | None:
    """When an item is forgotten; None: never."""
    return None if ttl_seconds is None else now + timedelta(seconds=ttl_seconds)
