"""Embedding: the job that gives items, and tasks that recall them, their vectors.

beat -> workers.jobs.control -> here -> an `Embedder`.  What waits is taken in batches, embedded outside any
transaction, and stored if its text is still the same; then items that agents wrote are merged into what says the same
already.  What cannot be embedded stays in its queue.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol

import structlog
from sqlalchemy import Row, text

from mesh.clock import Clock
from mesh.costs.ledger import Spender
from mesh.db import vectors
from mesh.db.unit_of_work import Database
from mesh.errors import BudgetBusyError, BudgetExceededError, ModelCallError, ModelsBusyError
from mesh.memory import merging
from mesh.memory.search import EXACT, literal
from mesh.memory.views import LEAST_SIMILARITY, Meaning

BATCH = 32
# What a worker that died has in hand is left to others after this, and so is what could not be embedded.
IN_HAND = timedelta(seconds=60)
# A run ends after this, so that what else waits for its slot gets it; the next one goes on.
RUN_SECONDS = 20.0
# So many items at once enter the graph of a network that has become large.
PROMOTED = 200
# Of a batch, so many spenders' texts are embedded at once.
SPENDERS_AT_ONCE = 4
# Nothing is asked for so long after a call failed, if nobody says how long.
REST_SECONDS = 10.0
# What waits for a budget is not looked at all the time, so that a network's thousands are in nobody's way.
WITHOUT_BUDGET = timedelta(minutes=10)
# What the provider will not take now it will hardly take soon.
REFUSED = timedelta(days=1)
_REFUSALS = frozenset({"bad_request", "context_too_long", "content_blocked"})

log = structlog.get_logger(__name__)

Store = Callable[[Row[Any], Sequence[float]], None]


class Embedder(Protocol):
    """A model that turns texts into vectors of unit length and 384 dimensions.

    `model` names what its vectors can be compared with, and below `least_similarity` two are of texts without relation.
    If it `charges`, each spender's texts are embedded by themselves.  A search is answered within `answer_seconds`, or
    goes by words.
    """

    model: str
    least_similarity: float = LEAST_SIMILARITY
    charges: bool = False
    answer_seconds: float = 0.2

    def embed(self, texts: Sequence[str], spender: Spender, /) -> list[list[float]]:
        """A vector for each text, in their order, at the cost of `spender`.

        Raises:
            BudgetExceededError, BudgetBusyError: the spender has to wait.
            ModelsBusyError, ModelCallError: everybody has to, unless it is these texts that are refused.
        """


def spender_of(user_id: str, key_id: str | None, network_id: str, task_id: str | None = None) -> Spender:
    """Who pays for a meaning."""
    return Spender(user_id, key_id, network_id, task_id, step_id=None, agent_type=None, attempt=1)


class Embedding:
    """Embeds what waits for it, by `embedder`."""

    def __init__(self, database: Database, embedder: Embedder, clock: Clock) -> None:
        self._database = database
        self._embedder = embedder
        self._clock = clock
        self._running = threading.Lock()
        self._renewed = False
        self._rest_until: datetime | None = None

    def possible(self) -> bool:
        """Whether the database keeps vectors."""
        with self._database.begin(atomic=False) as work:
            return vectors.exist(work.connection)

    def run(self) -> int:
        """Embed what waits, for a while; answers how many texts were taken.  One run at a time in a process."""
        if not self._running.acquire(blocking=False):
            return 0
        try:
            return self._run() if not self._resting() and self.possible() else 0
        except (ModelCallError, ModelsBusyError) as error:
            self._rest(error)
            return 0
        finally:
            self._running.release()

    def _resting(self) -> bool:
        return self._rest_until is not None and self._clock() < self._rest_until

    def _rest(self, error: ModelCallError | ModelsBusyError) -> None:
        """Leave the provider alone for a while, and say so once for all that waits."""
        asked = error.seconds if isinstance(error, ModelsBusyError) else error.retry_after_seconds
        seconds = asked or REST_SECONDS
        self._rest_until = self._clock() + timedelta(seconds=seconds)
        log.warning("embedding_rests", reason=error.code, detail=str(error), seconds=round(seconds, 1))

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
        self._embed(rows, self._store_task)
        return len(rows)

    def _embed_memories(self) -> int:
        rows = self._take(_TAKE_MEMORIES)
        self._embed([row for row in rows if not row.deleted], self._store)
        for network_id in {row.network_id for row in rows}:
            self._promote(network_id)
        return len(rows)

    def _take(self, statement: Any) -> Sequence[Row[Any]]:  # noqa: ANN401  # a text clause
        now = self._clock()
        with self._database.begin(atomic=False) as work:
            return work.connection.execute(statement, {"now": now, "until": now + IN_HAND, "batch": BATCH}).all()

    def _embed(self, rows: Sequence[Row[Any]], store: Store) -> None:
        groups: defaultdict[Spender | None, list[Row[Any]]] = defaultdict(list)
        for row in rows:
            groups[_spender(row) if self._embedder.charges else None].append(row)
        if len(groups) < 2:
            for group in groups.values():
                self._embed_group(store, group)
            return
        with ThreadPoolExecutor(SPENDERS_AT_ONCE) as beside:
            # Of the failures the first one is raised, and no other group is begun.
            list(beside.map(partial(self._embed_group, store), groups.values()))

    def _embed_group(self, store: Store, rows: Sequence[Row[Any]]) -> None:
        if self._clock() > rows[0].taken_until - IN_HAND / 2:  # others may have it before this is done
            return
        for row, vector in self._embedded(rows):
            store(row, vector)

    def _embedded(self, rows: Sequence[Row[Any]]) -> Iterator[tuple[Row[Any], Sequence[float]]]:
        """Those of one spender's `rows` that can be embedded now, with their vectors; the others wait."""
        try:
            embedded = self._embedder.embed([row.content for row in rows], _spender(rows[0]))
        except BudgetBusyError:
            log.info("embedding_waits_for_budget", network_id=rows[0].network_id)
        except BudgetExceededError:
            self._postpone(rows, WITHOUT_BUDGET, reason=BudgetExceededError.code)
        except ModelCallError as error:
            if error.code not in _REFUSALS:
                raise
            if len(rows) == 1:
                self._postpone(rows, REFUSED, reason=error.code)
            else:  # one of them is why
                for row in rows:
                    yield from self._embedded([row])
        else:
            yield from zip(rows, embedded, strict=True)

    def _postpone(self, rows: Sequence[Row[Any]], wait: timedelta, *, reason: str) -> None:
        log.info("embedding_postponed", network_id=rows[0].network_id, count=len(rows), reason=reason)
        values = {"ids": [row.id for row in rows], "taken": rows[0].taken_until, "until": self._clock() + wait}
        with self._database.begin(atomic=False) as work:
            work.connection.execute(_POSTPONE, values)

    def _store_task(self, row: Row[Any], vector: Sequence[float]) -> None:
        meaning = Meaning(self._embedder.model, vector, self._embedder.least_similarity)
        with self._database.begin(atomic=False) as work:
            work.connection.execute(_STORE_TASK, {"id": row.id, **asdict(meaning)})

    def _store(self, row: Row[Any], vector: Sequence[float]) -> None:
        meaning = Meaning(self._embedder.model, vector, self._embedder.least_similarity)
        values = {"id": row.id, "content": row.content, "model": meaning.model, "vector": literal(vector)}
        with self._database.begin() as work:
            if work.connection.execute(_STORE, values).first() and row.source_kind == "agent":
                merging.merge(work.connection, row.id, meaning, now=self._clock())

    def _promote(self, network_id: str) -> None:
        """Put a network that has become large into the graph, a part at a time."""
        while True:
            with self._database.begin(atomic=False) as work:
                if not work.connection.execute(
                    _PROMOTE, {"network_id": network_id, "model": self._embedder.model}
                ).rowcount:
                    return


def _spender(row: Row[Any]) -> Spender:
    return spender_of(row.user_id, row.key_id, row.network_id, row.task_id)


# Primary keys; the queue's in the order of writing.
_TAKE_MEMORIES = text(
    """
    UPDATE memories_to_embed queue SET taken_until = :until FROM memories, networks
    WHERE memories.id = queue.memory_id AND networks.id = memories.network_id AND memory_id IN (
        SELECT memory_id FROM memories_to_embed WHERE taken_until <= :now
        ORDER BY memory_id LIMIT :batch FOR UPDATE SKIP LOCKED)
    RETURNING memories.id, memories.network_id, memories.content, memories.source_kind, queue.taken_until,
        networks.owner AS user_id, NULL AS key_id, NULL AS task_id, networks.deleted_at IS NOT NULL AS deleted
    """
)

# ix_task_vectors_asked
_TAKE_TASKS = text(
    """
    UPDATE task_vectors asked SET taken_until = :until FROM tasks
    WHERE tasks.id = asked.task_id AND task_id IN (
        SELECT task_id FROM task_vectors WHERE vector IS NULL AND taken_until <= :now
        ORDER BY task_id LIMIT :batch FOR UPDATE SKIP LOCKED)
    RETURNING tasks.id, tasks.network_id, tasks.task AS content, asked.taken_until,
        tasks.owner AS user_id, tasks.key_id, tasks.id AS task_id
    """
)

# Primary keys; an item that was changed meanwhile does not wait.
_POSTPONE = text(
    """
    WITH items AS (
        UPDATE memories_to_embed SET taken_until = :until WHERE memory_id = ANY(:ids) AND taken_until = :taken
    )
    UPDATE task_vectors SET taken_until = :until WHERE task_id = ANY(:ids) AND taken_until = :taken
    """
)

_STORE_TASK = text(
    """
    UPDATE task_vectors
    SET model = :model, vector = CAST(:vector AS real[]), least_similarity = :least_similarity
    WHERE task_id = :id
    """
)

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
