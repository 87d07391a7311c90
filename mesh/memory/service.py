"""Shared memory, for callers: add, read, search and change."""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, delete, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert

from mesh.clock import Clock
from mesh.costs.ledger import Spender
from mesh.db import vectors
from mesh.db.tables import memories, memories_to_embed
from mesh.db.unit_of_work import Database, UnitOfWork
from mesh.errors import NotFoundError
from mesh.ids import new_id
from mesh.memory import search
from mesh.memory.embedding_queue import spender_of
from mesh.memory.sameness import said
from mesh.memory.views import Filters, Meaning, MemoryChanges, MemoryView, NewMemory, Source, view_of
from mesh.memory.writing import expiry, remembering, remembering_values
from mesh.security.access import require, require_version
from mesh.security.principal import Principal

# Changes of these are to reach the vectors, too.
_EMBEDDED = frozenset({"content", "type", "confidence", "expires_at"})

_REMEMBER = text(
    f"WITH {remembering('(SELECT CAST(:network_id AS text) AS network_id) here')} SELECT id FROM remembered"  # noqa: S608  # ours
)


def words_alone(_text: str, _spender: Spender) -> Meaning | None:
    """The meaning of a search where nothing understands it."""
    return None


class Memory:
    """The shared memory of networks, for callers."""

    def __init__(
        self, database: Database, clock: Clock, meaning_of: Callable[[str, Spender], Meaning | None] = words_alone
    ) -> None:
        """`meaning_of` a search's text, at the cost of who searches; None, and soon, where it is not to be had now."""
        self._database = database
        self._clock = clock
        self._meaning_of = meaning_of

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
        return view_of(row)

    def list(
        self,
        principal: Principal,
        network_id: str,
        *,
        limit: int,
        before: str | None = None,
        filters: Filters = Filters(),  # noqa: B008  # frozen
    ) -> Sequence[MemoryView]:
        """Items newest first, ids below `before` (ix_memories_network_id_id)."""
        found = select(memories).where(memories.c.network_id == network_id, _alive(self._clock()))
        for column, wanted in ((memories.c.type, filters.type), (memories.c.task_id, filters.task_id)):
            if wanted is not None:
                found = found.where(column == wanted)
        if filters.min_confidence is not None:
            found = found.where(memories.c.confidence >= filters.min_confidence)
        if before is not None:
            found = found.where(memories.c.id < before)
        with self._database.begin() as work:
            require(work.connection, principal, network_id)
            return [view_of(row) for row in work.connection.execute(found.order_by(memories.c.id.desc()).limit(limit))]

    def search(
        self,
        principal: Principal,
        network_id: str,
        query: str,
        *,
        limit: int,
        filters: Filters = Filters(),  # noqa: B008  # frozen
    ) -> Sequence[MemoryView]:
        """The items that `query` is most about, by meaning and words, best first."""
        with self._database.begin(atomic=False) as work:
            require(work.connection, principal, network_id)
        meaning = self._meaning_of(query, spender_of(principal.user_id, principal.key_id, network_id))
        with self._database.begin(atomic=False) as work:
            asked = search.Asked(network_id, query, meaning, filters, limit)
            return [view_of(row) for row in search.best(work.connection, asked, now=self._clock())]

    def get(self, principal: Principal, network_id: str, memory_id: str) -> MemoryView:
        """One item; NotFoundError when it is not in that network, has expired, or is not the principal's."""
        with self._database.begin() as work:
            require(work.connection, principal, network_id)
            return view_of(self._find(work, network_id, memory_id))

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
            values["expires_at"] = expiry(now, values.pop("ttl_seconds"))
        with self._database.begin() as work:
            require(work.connection, principal, network_id)
            row = self._find(work, network_id, memory_id, change=True)
            require_version(row.version, if_version)
            if "content" in values:
                values["said"] = said(values["content"])
                _void_vector(work, memory_id)
            if not _EMBEDDED.isdisjoint(values):
                _queue(work, memory_id)
            if values:
                values |= {"version": memories.c.version + 1, "updated_at": now}
                changed = update(memories).where(memories.c.id == memory_id).values(values).returning(memories)
                row = work.connection.execute(changed).one()
            return view_of(row)

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


def _queue(work: UnitOfWork, memory_id: str) -> None:
    """Have the item embedded (again)."""
    work.connection.execute(
        insert(memories_to_embed)
        .values(memory_id=memory_id)
        .on_conflict_do_update(index_elements=["memory_id"], set_={"taken_until": text("'-infinity'"), "attempts": 0})
    )


def _void_vector(work: UnitOfWork, memory_id: str) -> None:
    """What the item meant until now is not to be found any more."""
    if vectors.exist(work.connection):
        work.connection.execute(text(f"DELETE FROM {vectors.TABLE} WHERE memory_id = :id"), {"id": memory_id})  # noqa: S608  # ours


def _alive(now: datetime) -> ColumnElement[bool]:
    return or_(memories.c.expires_at.is_(None), memories.c.expires_at > now)
