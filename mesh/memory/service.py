"""Shared memory: add, read, change, and recall what is most relevant to a step."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypedDict

from sqlalchemy import ColumnElement, Connection, Row, Text, cast, delete, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import TSQUERY

from mesh.clock import Clock
from mesh.db.prepared import Prepared
from mesh.db.tables import memories
from mesh.db.unit_of_work import Database, UnitOfWork
from mesh.errors import NotFoundError
from mesh.ids import new_id
from mesh.security.access import require, require_version
from mesh.security.principal import Principal

# Recall looks at so many of the newest items: its cost does not grow with the network.
RECALL_WINDOW = 200
RECALL_LIMIT = 20


@dataclass(frozen=True)
class NewMemory:
    """An item to be remembered; `ttl_seconds` from now it is forgotten."""

    content: str
    type: str = "fact"
    confidence: float = 1.0
    metadata: Mapping[str, Any] = field(default_factory=dict)
    pinned: bool = False
    ttl_seconds: int | None = None


class MemoryChanges(TypedDict, total=False):
    """What of an item is to be changed; `ttl_seconds` counts from now, None: for ever."""

    content: str
    type: str
    confidence: float
    metadata: Mapping[str, Any]
    pinned: bool
    ttl_seconds: int | None


@dataclass(frozen=True)
class Source:
    """Who wrote an item: a user, or an agent in a task."""

    kind: str
    agent_id: str | None = None
    task_id: str | None = None


@dataclass(frozen=True)
class MemoryView:
    """A remembered item."""

    memory_id: str
    network_id: str
    content: str
    type: str
    confidence: float
    metadata: Mapping[str, Any]
    pinned: bool
    expires_at: datetime | None
    source: Source
    created_at: datetime
    updated_at: datetime
    version: int


class Memory:
    """The shared memory of networks, for callers."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def add(
        self, principal: Principal, network_id: str, new: NewMemory, *, within: UnitOfWork | None = None
    ) -> MemoryView:
        """Remember an item that a user gives."""
        with self._database.begin(within=within) as work:
            require(work.connection, principal, network_id)
            memory_id, now = new_id("memory"), self._clock()
            values = remembering_values({memory_id: new}, Source("user"), now=now)
            work.connection.execute(_REMEMBER, {**values, "network_id": network_id, "now": now})
            row = work.connection.execute(select(memories).where(memories.c.id == memory_id)).one()
        return _view(row)

    def list(
        self,
        principal: Principal,
        network_id: str,
        *,
        limit: int,
        before: str | None = None,
        type: str | None = None,  # noqa: A002  # the contract's name of the filter
        query: str | None = None,
        min_confidence: float | None = None,
        task_id: str | None = None,
    ) -> list[MemoryView]:
        """Items newest first, ids below `before`; with `query` only those that hold one of its words, best first."""
        found = select(memories).where(memories.c.network_id == network_id, _alive(self._clock()))
        for column, wanted in ((memories.c.type, type), (memories.c.task_id, task_id)):
            if wanted is not None:
                found = found.where(column == wanted)
        if min_confidence is not None:
            found = found.where(memories.c.confidence >= min_confidence)
        if before is not None:
            found = found.where(memories.c.id < before)
        order = [memories.c.id.desc()]
        if query is not None:
            words = _any_word(query)
            found = found.where(memories.c.words.op("@@")(words))
            order = [func.ts_rank(memories.c.words, words).desc(), *order]
        with self._database.begin() as work:
            require(work.connection, principal, network_id)
            return [_view(row) for row in work.connection.execute(found.order_by(*order).limit(limit))]

    def get(self, principal: Principal, network_id: str, memory_id: str) -> MemoryView:
        """One item; NotFoundError when it is not in that network, has expired, or is not the principal's."""
        with self._database.begin() as work:
            require(work.connection, principal, network_id)
            return _view(self._find(work, network_id, memory_id))

    def change(
        self,
        principal: Principal,
        network_id: str,
        memory_id: str,
        changes: MemoryChanges,
        *,
        if_version: Collection[int] | None = None,
    ) -> MemoryView:
        """Change what is named; its source stays who wrote it first.

        Raises:
            StaleVersionError: it is at none of these versions.
        """
        values: dict[str, Any] = dict(changes)
        now = self._clock()
        if "ttl_seconds" in values:
            values["expires_at"] = _expiry(now, values.pop("ttl_seconds"))
        with self._database.begin() as work:
            require(work.connection, principal, network_id)
            row = self._find(work, network_id, memory_id, change=True)
            require_version(row.version, if_version)
            if values:
                values |= {"version": memories.c.version + 1, "updated_at": now}
                changed = update(memories).where(memories.c.id == memory_id).values(values).returning(memories)
                row = work.connection.execute(changed).one()
            return _view(row)

    def remove(
        self, principal: Principal, network_id: str, memory_id: str, *, if_version: Collection[int] | None = None
    ) -> None:
        """Forget an item.

        Raises:
            StaleVersionError: it is at none of these versions.
        """
        with self._database.begin() as work:
            require(work.connection, principal, network_id)
            require_version(self._find(work, network_id, memory_id, change=True).version, if_version)
            work.connection.execute(delete(memories).where(memories.c.id == memory_id))

    def _find(self, work: UnitOfWork, network_id: str, memory_id: str, *, change: bool = False) -> Row[Any]:
        """The item's row by its primary key; with `change` nobody else changes it until the transaction ends."""
        query = select(memories).where(
            memories.c.id == memory_id, memories.c.network_id == network_id, _alive(self._clock())
        )
        row = work.connection.execute(query.with_for_update() if change else query).first()
        if row is None:
            raise NotFoundError(f"There is no memory {memory_id!r} in this network.")
        return row


def remembering(source: str) -> str:
    """SQL that stores new items for each row of `source`, which has the `network_id`."""
    return f"""
        INSERT INTO memories (
            id, network_id, type, content, confidence, metadata, pinned, expires_at,
            source_kind, agent_id, task_id, version, created_at, updated_at)
        SELECT new.id, network_id, new.type, new.content, new.confidence, new.metadata, new.pinned, new.expires_at,
            :source_kind, :agent_id, :source_task_id, 1, :now, :now
        FROM {source}, jsonb_to_recordset(CAST(:memories AS jsonb)) AS new (
            id text, type text, content text, confidence float, metadata jsonb, pinned boolean,
            expires_at timestamptz)"""  # noqa: S608  # built from constants of ours


def remembering_values(items: Mapping[str, NewMemory], source: Source, *, now: datetime) -> dict[str, Any]:
    """The parameters of `remembering`, but for `now`; `items` by their ids."""
    rows = [
        {
            "id": memory_id,
            "type": item.type,
            "content": item.content,
            "confidence": item.confidence,
            "metadata": dict(item.metadata),
            "pinned": item.pinned,
            "expires_at": expires_at.isoformat() if (expires_at := _expiry(now, item.ttl_seconds)) else None,
        }
        for memory_id, item in items.items()
    ]
    origin = {"source_kind": source.kind, "agent_id": source.agent_id, "source_task_id": source.task_id}
    return {"memories": json.dumps(rows), **origin}


_REMEMBER = text(remembering("(SELECT CAST(:network_id AS text) AS network_id) here"))


# The newest by ix_memories_network_id_id; the search is parsed once, not once a row.
_RECALL = Prepared(
    """
    WITH about AS MATERIALIZED (
        SELECT CAST(replace(CAST(plainto_tsquery('english', :about) AS text), ' & ', ' | ') AS tsquery) AS words
    ), newest AS (
        SELECT * FROM memories
        WHERE network_id = :network_id AND (expires_at IS NULL OR expires_at > :now)
        ORDER BY id DESC LIMIT :window
    )
    SELECT newest.id AS memory_id, newest.type, newest.content, newest.confidence FROM newest, about
    ORDER BY newest.pinned DESC, ts_rank(newest.words, about.words) DESC, newest.id DESC LIMIT :limit
    """,
    now="timestamptz",
    window="int",
    limit="int",
)


@dataclass(frozen=True, slots=True)
class Recalled:
    """What an agent is reminded of."""

    memory_id: str
    type: str
    content: str
    confidence: float


def recall(connection: Connection, network_id: str, about: str, *, now: datetime) -> list[Recalled]:
    """What the network remembers `about` a step: pinned items first, then the most relevant, then the newest.

    Relevance is by words (PostgreSQL full text), among the newest items.
    """
    values = {"network_id": network_id, "about": about, "now": now, "window": RECALL_WINDOW, "limit": RECALL_LIMIT}
    return [
        Recalled(row.memory_id, row.type, row.content, row.confidence) for row in _RECALL.execute(connection, values)
    ]


def _expiry(now: datetime, ttl_seconds: int | None) -> datetime | None:
    return None if ttl_seconds is None else now + timedelta(seconds=ttl_seconds)


def _alive(now: datetime) -> ColumnElement[bool]:
    return or_(memories.c.expires_at.is_(None), memories.c.expires_at > now)


def _any_word(query: str) -> ColumnElement[Any]:
    """A text search for any of the words of `query`: the parser's own, which wants all of them, with OR for AND."""
    every = cast(func.plainto_tsquery(text("'english'::regconfig"), query), Text)
    # As a subquery it is parsed once, not once a row.
    return select(cast(func.replace(every, " & ", " | "), TSQUERY)).scalar_subquery()


def _view(row: Row[Any]) -> MemoryView:
    return MemoryView(
        memory_id=row.id,
        network_id=row.network_id,
        content=row.content,
        type=row.type,
        confidence=row.confidence,
        metadata=row.metadata,
        pinned=row.pinned,
        expires_at=row.expires_at,
        source=Source(row.source_kind, row.agent_id, row.task_id),
        created_at=row.created_at,
        updated_at=row.updated_at,
        version=row.version,
    )
