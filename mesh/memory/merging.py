"""Merging: what an agent wrote and another item says already becomes one item, the older one.

embedding -> here, with the new item's vector.  Only what nobody has touched since an agent wrote it may go; what a user
added may stand for it, and never goes.
"""

from datetime import datetime

import structlog
from sqlalchemy import Connection, text

from mesh.clock import to_wire
from mesh.memory.sameness import LEAST_COSINE, particulars
from mesh.memory.search import LARGE, SETTINGS, Asked, nearest, values_of
from mesh.memory.views import LEAST_SIMILARITY, Filters, Meaning
from mesh.memory.writing import said_again

CANDIDATES = 5

log = structlog.get_logger(__name__)


def merge(connection: Connection, memory_id: str, meaning: Meaning, *, now: datetime) -> str | None:
    """Merge the item into an older one of its network and type that says the same; the id of that one, if there is."""
    item = connection.execute(_MERGEABLE, {"id": memory_id}).first()
    if item is None:
        return None
    asked = Asked(item.network_id, "", meaning, Filters(type=item.type), CANDIDATES)
    # Where texts without relation are nearer to each other, so are those that nearly say the same.
    distance = (1 - LEAST_COSINE) * (1 - meaning.least_similarity) / (1 - LEAST_SIMILARITY)
    values = {**values_of(asked, now=now), "each": CANDIDATES, "id": memory_id, "distance": distance}
    for older in connection.execute(_OLDER, values):
        if particulars(older.content) == particulars(item.content):
            connection.execute(_SAY_AGAIN, {"id": memory_id, "older": older.id, "now": now, "at": to_wire(now)})
            connection.execute(text("DELETE FROM memories WHERE id = :id"), {"id": memory_id})
            log.info("memory_merged", memory_id=memory_id, into=older.id)
            return str(older.id)
    return None


_MERGEABLE = text(
    """
    SELECT network_id, type, content FROM memories
    WHERE id = :id AND source_kind = 'agent' AND version = 1 AND NOT pinned AND expires_at IS NULL
    FOR UPDATE
    """
)

# None of the two has words that the other lacks, unless the other has none of its own.
_OLDER = text(
    f"""
    {SETTINGS}
    WITH {LARGE}, near AS ({nearest()})
    SELECT older.id, older.content
    FROM near JOIN memories older ON older.id = near.memory_id CROSS JOIN memories item
    WHERE item.id = :id AND older.id < item.id AND near.distance <= :distance AND older.expires_at IS NULL
        AND (tsvector_to_array(older.words) <@ tsvector_to_array(item.words)
             OR tsvector_to_array(item.words) <@ tsvector_to_array(older.words))
    ORDER BY near.distance
    """  # noqa: S608  # built from constants of ours
)

_WHO = "jsonb_build_object('agent_id', item.agent_id, 'task_id', item.task_id, 'at', CAST(:at AS text))"

_SAY_AGAIN = text(
    f"""
    UPDATE memories SET confidence = greatest(memories.confidence, item.confidence), version = memories.version + 1,
        updated_at = :now, said_again = {said_again(_WHO + " || jsonb_build_object('memory_id', item.id)")}
    FROM memories item WHERE memories.id = :older AND item.id = :id
    """  # noqa: S608  # as above
)
