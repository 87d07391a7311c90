"""Embedding: the job that gives items, and tasks that recall them, their vectors.

beat -> workers.jobs.control -> here.  What waits is taken in batches, embedded outside any transaction, and stored if
its text is still the same; then items that agents wrote are merged into what says the same already.
"""

import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Protocol

import structlog
from sqlalchemy import Row, text

from mesh.clock import Clock
from mesh.db import vectors
from mesh.db.unit_of_work import Database
from mesh.memory import merging
from mesh.memory.search import EXACT, literal

BATCH = 32
# A worker that died with a batch in hand leaves it to others after this.
IN_HAND = timedelta(seconds=60)
# A run ends after this, so that what else waits for its slot gets it; the next one goes on.
RUN_SECONDS = 20.0
# So many items at once enter the graph of a network that has become large.
PROMOTED = 200

log = structlog.get_logger(__name__)


class Embedder(Protocol):
    """A model that turns texts into vectors of unit length and 384 dimensions; `model` names it."""

    @property
    def model(self) -> str:
        """What its vectors are stored as."""

    def embed(self, texts: list[str], /) -> list[list[float]]:
        """A vector for each text, in their order."""


class Embedding:
    """Embeds what waits for it, by `embedder`."""

    def __init__(self, database: Database, embedder: Embedder, clock: Clock) -> None:
        self._database = database
        self._embedder = embedder
        self._clock = clock
        self._running = threading.Lock()
        self._renewed = False

    def possible(self) -> bool:
        """Whether the database keeps vectors."""
        with self._database.begin(atomic=False) as work:
            return vectors.exist(work.connection)

    def run(self) -> int:
        """Embed what waits, for a while; answers how many texts that were.  One run at a time in a process."""
        if not self._running.acquire(blocking=False):
            return 0
        try:
            return self._run() if self.possible() else 0
        finally:
            self._running.release()

    def _run(self) -> int:
        self._renew()
        total, until = 0, time.monotonic() + RUN_SECONDS
        while time.monotonic() < until:
            done = self._embed_tasks() + self._embed_memories()
            if not done:
                break
            total += done
        return total

    def _renew(self) -> None:
        """Have embedded anew what another model did, once."""
        if not self._renewed:
            with self._database.begin() as work:
                work.connection.execute(_RENEW, {"model": self._embedder.model})
                work.connection.execute(_RENEW_TASKS, {"model": self._embedder.model})
            self._renewed = True

    def _embed_tasks(self) -> int:
        rows = self._take(_TAKE_TASKS)
        for row, vector in zip(rows, self._embedder.embed([row.task for row in rows]), strict=True):
            values = {"id": row.id, "model": self._embedder.model, "vector": vector}
            with self._database.begin(atomic=False) as work:
                work.connection.execute(_STORE_TASK, values)
        return len(rows)

    def _embed_memories(self) -> int:
        rows = self._take(_TAKE_MEMORIES)
        embedded = self._embedder.embed([row.content for row in rows])
        for row, vector in zip(rows, embedded, strict=True):
            self._store(row, vector)
        for network_id in {row.network_id for row in rows}:
            self._promote(network_id)
        return len(rows)

    def _take(self, statement: Any) -> Sequence[Row[Any]]:  # noqa: ANN401  # a text clause
        now = self._clock()
        with self._database.begin(atomic=False) as work:
            return work.connection.execute(statement, {"now": now, "until": now + IN_HAND, "batch": BATCH}).all()

    def _store(self, row: Row[Any], vector: Sequence[float]) -> None:
        model, now = self._embedder.model, self._clock()
        values = {"id": row.id, "content": row.content, "model": model, "vector": literal(vector)}
        with self._database.begin() as work:
            if work.connection.execute(_STORE, values).first() and row.source_kind == "agent":
                merging.merge(work.connection, row.id, model=model, vector=vector, now=now)

    def _promote(self, network_id: str) -> None:
        """Put a network that has become large into the graph, a part at a time."""
        while True:
            with self._database.begin(atomic=False) as work:
                if not work.connection.execute(
                    _PROMOTE, {"network_id": network_id, "model": self._embedder.model}
                ).rowcount:
                    return


# Primary key, in the order of writing.
_TAKE_MEMORIES = text(
    """
    UPDATE memories_to_embed queue SET taken_until = :until FROM memories
    WHERE memories.id = queue.memory_id AND memory_id IN (
        SELECT memory_id FROM memories_to_embed WHERE taken_until <= :now
        ORDER BY memory_id LIMIT :batch FOR UPDATE SKIP LOCKED)
    RETURNING memories.id, memories.network_id, memories.content, memories.source_kind
    """
)

# ix_task_vectors_asked
_TAKE_TASKS = text(
    """
    UPDATE task_vectors asked SET taken_until = :until FROM tasks
    WHERE tasks.id = asked.task_id AND task_id IN (
        SELECT task_id FROM task_vectors WHERE vector IS NULL AND taken_until <= :now
        ORDER BY task_id LIMIT :batch FOR UPDATE SKIP LOCKED)
    RETURNING tasks.id, tasks.task
    """
)

_STORE_TASK = text("UPDATE task_vectors SET model = :model, vector = CAST(:vector AS real[]) WHERE task_id = :id")

# The row of the queue goes only if it was this content that was embedded.  Items of large networks go into the graph.
_STORE = text(
    f"""
    WITH item AS (
        SELECT * FROM memories WHERE id = :id AND content = :content FOR NO KEY UPDATE
    ), done AS (
        DELETE FROM memories_to_embed USING item WHERE memory_id = item.id
    )
    INSERT INTO {vectors.TABLE} (
        memory_id, network_id, indexed, type, confidence, task_id, expires_at, model, vector)
    SELECT id, network_id, (
            SELECT coalesce(sum(memories), 0) > {EXACT} FROM network_counts WHERE network_id = item.network_id
        ), type, confidence, task_id, expires_at, :model, CAST(:vector AS halfvec)
    FROM item
    ON CONFLICT (memory_id) DO UPDATE SET type = excluded.type, confidence = excluded.confidence,
        expires_at = excluded.expires_at, model = excluded.model, vector = excluded.vector
    RETURNING memory_id
    """  # noqa: S608  # built from constants of ours
)

# ix_memory_vectors_exact
_PROMOTE = text(
    f"""
    UPDATE {vectors.TABLE} SET indexed = true WHERE memory_id IN (
        SELECT memory_id FROM {vectors.TABLE}
        WHERE model = :model AND network_id = :network_id AND NOT indexed AND (
            SELECT coalesce(sum(memories), 0) > {EXACT} FROM network_counts WHERE network_id = :network_id)
        LIMIT {PROMOTED})
    """  # noqa: S608  # as above
)

# ix_memory_vectors_exact and ix_memory_vectors_indexed begin with the model.
_RENEW = text(
    f"""
    INSERT INTO memories_to_embed (memory_id)
    SELECT memory_id FROM {vectors.TABLE} WHERE (model < :model OR model > :model) AND NOT indexed
    UNION SELECT memory_id FROM {vectors.TABLE} WHERE (model < :model OR model > :model) AND indexed
    ON CONFLICT DO NOTHING
    """  # noqa: S608  # as above
)

_RENEW_TASKS = text("UPDATE task_vectors SET vector = NULL WHERE model <> :model")
