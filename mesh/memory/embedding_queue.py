"""What waits to be embedded: texts without a vector, in hand of one worker at a time.

embedding -> here.  One model at a time has its vectors stored: that of the worker which was the last to take over from
another one.  From then on nothing of an older one is stored any more, and what it did is put into the queue in parts.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import TextClause, text

from mesh.clock import Clock
from mesh.costs.ledger import Spender
from mesh.db import vectors
from mesh.db.unit_of_work import Database, UnitOfWork
from mesh.memory import merging
from mesh.memory.search import EXACT, literal
from mesh.memory.views import Meaning

BATCH = 32
# What a worker that died has in hand is left to others after this.
IN_HAND = timedelta(seconds=60)
# Of what another model embedded, so much is put into the queue at a time, when nothing else is in it.
RENEWED = 1000
# When all is, it is looked for again after this: a worker of an older version may have stored some more.
RENEWED_EVERY = timedelta(minutes=10)
# So many items at once enter the graph of a network that has become large.
PROMOTED = 200


@dataclass(frozen=True)
class Waiting:
    """An item of a network's memory, or what a task is about, in hand until `taken_until`.

    `attempts`: how often it could not be embedded, alone or together with others.  `over`: its network is deleted, its
    task has ended or it has expired, and nobody will look for it.
    """

    id: str
    content: str
    network_id: str
    user_id: str
    key_id: str | None
    task_id: str | None
    by_agent: bool
    over: bool
    taken_until: datetime
    attempts: int

    @property
    def spender(self) -> Spender:
        """Who pays: a network's owner for its items, a task for its meaning."""
        return spender_of(self.user_id, self.key_id, self.network_id, self.task_id)


def spender_of(user_id: str, key_id: str | None, network_id: str, task_id: str | None = None) -> Spender:
    """Who pays for a meaning."""
    return Spender(user_id, key_id, network_id, task_id, step_id=None, agent_type=None, attempt=1)


class EmbeddingQueue:
    """The queue as `model` works it off."""

    def __init__(self, database: Database, clock: Clock, model: str, *, renewed: int = RENEWED) -> None:
        self._database = database
        self._clock = clock
        self._model = model
        self._renewed = renewed
        self._after = ""
        self._renew_at = clock()

    def take_over(self) -> None:
        """Have vectors of this model stored from now on, and those of any other made anew."""
        self._database.persist(self._take_over)  # vectors that are paid for wait for it
        self._after, self._renew_at = "", self._clock()

    def _take_over(self, work: UnitOfWork) -> None:
        if work.connection.execute(_TAKE_OVER, {"model": self._model}).first():
            waiting = {"from": self._clock() + IN_HAND}  # what is in hand stays there
            work.connection.execute(_RESET_MEMORIES, waiting)
            work.connection.execute(_RESET_TASKS, waiting)

    def possible(self) -> bool:
        """Whether the database keeps vectors."""
        with self._database.begin(atomic=False) as work:
            return vectors.exist(work.connection)

    def stored(self) -> bool:
        """Whether it keeps those of this model."""
        with self._database.begin(atomic=False) as work:
            return vectors.exist(work.connection) and work.connection.execute(_MODEL).scalar() == self._model

    def take_tasks(self) -> list[Waiting]:
        """Some of the tasks that recall more than fits into a prompt."""
        return self._take(_TAKE_TASKS)

    def take_memories(self) -> list[Waiting]:
        """Some of the items, in the order of their writing."""
        return self._take(_TAKE_MEMORIES)

    def _take(self, statement: TextClause) -> list[Waiting]:
        now = self._clock()
        values = {"now": now, "until": now + IN_HAND, "batch": BATCH}
        with self._database.begin(atomic=False) as work:
            rows = [Waiting(**row._mapping) for row in work.connection.execute(statement, values)]
        return sorted(rows, key=lambda row: row.id)

    def sample(self) -> bool:
        """As `renew`, but a batch every ten minutes: enough to see whether this model works."""
        if self._clock() < self._renew_at:
            return False
        self._renew_at = self._clock() + RENEWED_EVERY
        return self._put(most=BATCH)

    def renew(self) -> bool:
        """Put the next of what other models embedded into the queue; False where all is, for the next ten minutes."""
        if self._clock() < self._renew_at:
            return False
        if not self._after:
            with self._database.begin(atomic=False) as work:
                work.connection.execute(_RENEW_TASKS, {"model": self._model})
        found = self._put(most=self._renewed)
        if not found:
            self._renew_at = self._clock() + RENEWED_EVERY
        return found

    def _put(self, *, most: int) -> bool:
        """Put the next items into the queue; False at their end, after which it begins anew."""
        values = {"model": self._model, "after": self._after, "limit": most, "now": self._clock()}
        with self._database.begin(atomic=False) as work:
            self._after = work.connection.execute(_RENEW, values).scalar() or ""
        return bool(self._after)

    def put_back(self, rows: Sequence[Waiting], *, wait: timedelta = timedelta(0), attempts: int | None = None) -> None:
        """Have `rows` taken again after `wait`, unless they changed meanwhile; `attempts`: with so many from now on."""
        values = {"ids": [row.id for row in rows], "taken": [row.taken_until for row in rows]}
        values |= {"until": self._clock() + wait, "attempts": attempts}
        with self._database.begin(atomic=False) as work:
            work.connection.execute(_PUT_BACK, values)

    def drop(self, rows: Sequence[Waiting]) -> None:
        """Have them never taken again."""
        with self._database.begin(atomic=False) as work:
            work.connection.execute(_DROP, {"ids": [row.id for row in rows]})

    def store(self, row: Waiting, meaning: Meaning) -> None:
        """Keep what `row` means, if it says the same still and no other model has taken over.

        An item that an agent wrote may disappear in one that says the same.
        """
        # A vector may have been paid for.
        write = self._store_task if row.task_id else self._store_memory
        self._database.persist(partial(write, row, meaning))

    def _store_task(self, row: Waiting, meaning: Meaning, work: UnitOfWork) -> None:
        work.connection.execute(_STORE_TASK, {"id": row.id, **asdict(meaning)})

    def _store_memory(self, row: Waiting, meaning: Meaning, work: UnitOfWork) -> None:
        values = {"id": row.id, "content": row.content, "model": meaning.model, "vector": literal(meaning.vector)}
        if work.connection.execute(_STORE_MEMORY, values).first() and row.by_agent:
            merging.merge(work.connection, row.id, meaning, now=self._clock())

    def promote(self, network_id: str) -> None:
        """Put a network that has become large into the graph, a part at a time."""
        values = {"network_id": network_id, "model": self._model}
        while self._promoted(values):
            pass

    def _promoted(self, values: dict[str, str]) -> int:
        with self._database.begin(atomic=False) as work:
            return work.connection.execute(_PROMOTE, values).rowcount


_MODEL = text("SELECT model FROM embedding_model")

# Waits for those who store by the old one.
_TAKE_OVER = text(
    """
    INSERT INTO embedding_model (model) VALUES (:model)
    ON CONFLICT (id) DO UPDATE SET model = excluded.model WHERE embedding_model.model <> excluded.model
    RETURNING model
    """
)

# What one provider would not take, another one may.
_RESET_MEMORIES = text(
    "UPDATE memories_to_embed SET taken_until = '-infinity', attempts = 0 WHERE taken_until > :from OR attempts > 0"
)
_RESET_TASKS = text(
    """
    UPDATE task_vectors SET taken_until = '-infinity', attempts = 0
    WHERE vector IS NULL AND (taken_until > :from OR attempts > 0)
    """
)

# Ended ones recall nothing any more.
_RENEW_TASKS = text(
    """
    UPDATE task_vectors SET vector = NULL, taken_until = '-infinity', attempts = 0 FROM tasks
    WHERE tasks.id = task_id AND finished_at IS NULL AND vector IS NOT NULL AND model <> :model
    """
)

# Primary keys.  The last id, if there is any.
_RENEW = text(
    f"""
    WITH others AS (
        SELECT memory_id FROM {vectors.TABLE}
        WHERE model <> :model AND memory_id > :after AND (expires_at IS NULL OR expires_at > :now)
        ORDER BY memory_id LIMIT :limit
    ), waiting AS (
        INSERT INTO memories_to_embed (memory_id) SELECT memory_id FROM others ON CONFLICT DO NOTHING
    )
    SELECT max(memory_id) FROM others
    """  # noqa: S608  # built from constants of ours
)

# ix_memories_to_embed_taken_until: what was not tried yet comes first, in the order of writing.
_TAKE_MEMORIES = text(
    """
    UPDATE memories_to_embed queue SET taken_until = :until FROM memories, networks
    WHERE memories.id = queue.memory_id AND networks.id = memories.network_id AND memory_id IN (
        SELECT memory_id FROM memories_to_embed WHERE taken_until <= :now
        ORDER BY taken_until, memory_id LIMIT :batch FOR UPDATE SKIP LOCKED)
    RETURNING memories.id, memories.content, memories.network_id, networks.owner AS user_id, NULL AS key_id,
        NULL AS task_id, source_kind = 'agent' AS by_agent,
        deleted_at IS NOT NULL OR coalesce(memories.expires_at <= :now, false) AS over,
        queue.taken_until, queue.attempts
    """
)

# ix_task_vectors_asked
_TAKE_TASKS = text(
    """
    UPDATE task_vectors asked SET taken_until = :until FROM tasks, networks
    WHERE tasks.id = asked.task_id AND networks.id = tasks.network_id AND task_id IN (
        SELECT task_id FROM task_vectors WHERE vector IS NULL AND taken_until <= :now
        ORDER BY taken_until, task_id LIMIT :batch FOR UPDATE SKIP LOCKED)
    RETURNING tasks.id, tasks.task AS content, tasks.network_id, tasks.owner AS user_id, tasks.key_id,
        tasks.id AS task_id, false AS by_agent, finished_at IS NOT NULL OR deleted_at IS NOT NULL AS over,
        asked.taken_until, asked.attempts
    """
)

# Primary keys; an item that was changed meanwhile does not wait.
_PUT_BACK = text(
    """
    WITH taken AS (
        SELECT * FROM unnest(CAST(:ids AS text[]), CAST(:taken AS timestamptz[])) AS taken (id, until)
    ), items AS (
        UPDATE memories_to_embed SET taken_until = :until, attempts = coalesce(CAST(:attempts AS integer), attempts)
        FROM taken WHERE memory_id = taken.id AND taken_until = taken.until
    )
    UPDATE task_vectors SET taken_until = :until, attempts = coalesce(CAST(:attempts AS integer), attempts)
    FROM taken WHERE task_id = taken.id AND taken_until = taken.until
    """
)

_DROP = text(
    """
    WITH items AS (DELETE FROM memories_to_embed WHERE memory_id = ANY(:ids))
    DELETE FROM task_vectors WHERE task_id = ANY(:ids)
    """
)

# Held until what is stored is: who takes over waits for it, and finds it.
_CURRENT = "current AS (SELECT model FROM embedding_model WHERE model = :model FOR SHARE)"

_STORE_TASK = text(
    f"""
    WITH {_CURRENT}
    UPDATE task_vectors
    SET model = current.model, vector = CAST(:vector AS real[]), least_similarity = :least_similarity
    FROM current WHERE task_id = :id
    """  # noqa: S608  # as above
)

# The row of the queue goes only if it was this content that was embedded.  Items of large networks go into the graph.
_STORE_MEMORY = text(
    f"""
    WITH {_CURRENT}, item AS (
        SELECT memories.* FROM memories, current WHERE id = :id AND content = :content FOR NO KEY UPDATE OF memories
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
    """  # noqa: S608  # as above
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
