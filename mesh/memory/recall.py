"""Recall: what a step's agent is reminded of.

tasks.briefing -> here.  Where all fits, it comes with the briefing, ranked by words.  Only a network with more is
searched, as callers search it, by the words of the step and by the meaning of its task - which a control worker has
looked up meanwhile, or not: nothing is waited for.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from mesh.memory.search import SETTINGS, Asked, fitting, ranked, values_of
from mesh.memory.views import Filters, Meaning, Recalled

RECALL_LIMIT = 20


def remembered(network_id: str, about: str) -> str:
    """SQL for what fits into a prompt, in order, or one item more: what `recall` takes.

    `network_id` and `about` are SQL, and the parameter `now` is used.  The newest by ix_memories_network_id_id; what
    is asked is parsed once, not once a row.
    """
    return f"""(
        WITH about AS MATERIALIZED (
            SELECT CAST(replace(CAST(plainto_tsquery('english', {about}) AS text), ' & ', ' | ') AS tsquery) AS words
        ), newest AS (
            SELECT * FROM memories
            WHERE network_id = {network_id} AND (expires_at IS NULL OR expires_at > :now)
            ORDER BY id DESC LIMIT {RECALL_LIMIT + 1}
        )
        SELECT jsonb_agg(
            jsonb_build_object(
                'memory_id', newest.id, 'type', newest.type, 'content', newest.content,
                'confidence', newest.confidence)
            ORDER BY newest.pinned DESC, ts_rank(newest.words, about.words) DESC, newest.id DESC)
        FROM newest, about)"""  # noqa: S608  # built from constants of ours


# Primary key.
_MEANING = text(
    "SELECT model, vector, least_similarity FROM task_vectors WHERE task_id = :task_id AND vector IS NOT NULL"
)


def understanding(task: str) -> str:
    """The CTE that has the meaning of `task` (a row with its `id` and `network_id`) looked up, if it will be used."""
    return f"""understood AS (
        INSERT INTO task_vectors (task_id) SELECT id FROM {task} WHERE {RECALL_LIMIT} < (
            SELECT sum(memories) FROM network_counts WHERE network_counts.network_id = {task}.network_id)
    )"""  # noqa: S608  # built from constants of ours


def recall(
    connection: Connection,
    fitting: Sequence[Mapping[str, Any]] | None,
    *,
    network_id: str,
    task_id: str,
    about: str,
    now: datetime,
) -> list[Recalled]:
    """What the network remembers `about` a step of a task: pinned items first, then the most relevant, then the newest.

    `fitting` is what `remembered` answered.  Relevant is what the step's words and the task's meaning find; in small
    networks, what has the step's words.
    """
    if len(fitting or ()) <= RECALL_LIMIT:
        # JSON does not tell 1.0 from 1.
        return [Recalled(**{**item, "confidence": float(item["confidence"])}) for item in fitting or ()]
    found = connection.execute(_MEANING, {"task_id": task_id}).first()
    meaning = Meaning(**found._mapping) if found else None
    asked = Asked(network_id, about, meaning, Filters(), RECALL_LIMIT)
    rows = connection.execute(text(_searching(meant=found is not None)), values_of(asked, now=now))
    return [Recalled(row.memory_id, row.type, row.content, row.confidence) for row in rows]


def _searching(*, meant: bool) -> str:
    """SQL for the best of a network that has more (ix_memories_pinned, ix_memories_network_id_id)."""
    listed = f"SELECT id, NULL::numeric AS score FROM memories WHERE network_id = :network_id AND {fitting('memories')}"  # noqa: S608  # built from constants of ours
    newest = "ORDER BY id DESC LIMIT :limit"
    return f"""
    {SETTINGS}
    WITH {ranked(meant=meant, of_task=False)}, picked AS (
        SELECT id, min(tier) AS tier, max(score) AS score FROM (
            SELECT 0 AS tier, * FROM ({listed} AND pinned {newest}) pinned
            UNION ALL SELECT 1, * FROM ranked
            UNION ALL SELECT 2, * FROM ({listed} {newest}) newest
        ) tiers GROUP BY id
    )
    SELECT id AS memory_id, type, content, memories.confidence FROM picked JOIN memories USING (id)
    WHERE {fitting("memories")}
    ORDER BY tier, score DESC NULLS LAST, id DESC LIMIT :limit
    """  # noqa: S608  # as above
