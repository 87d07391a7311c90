"""Idempotency: what a request makes and the answer to it are stored in one transaction, so that neither is there alone.

api.idempotency -> here.  A lock that ends with the transaction stands for "in flight": a process that dies leaves
nothing that would have to be cleared up.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, insert, select, text

from mesh.clock import Clock
from mesh.db.leader import number
from mesh.db.tables import idempotency_keys
from mesh.db.unit_of_work import Database, UnitOfWork
from mesh.errors import KeyReusedError, RequestInFlightError

KEPT_FOR = timedelta(hours=24)

_TRY = text(f"SELECT pg_try_advisory_xact_lock({number(':id')})")


@dataclass(frozen=True)
class Kept:
    """An answer; `body` is None where it must not be stored."""

    status: int
    headers: Mapping[str, str]
    body: str | None


@dataclass(frozen=True)
class Attempt:
    """A request under an idempotency key: `work` is its transaction, `first` the answer when there is one already."""

    id: bytes
    fingerprint: bytes
    work: UnitOfWork
    first: Kept | None


class Idempotency:
    """Answers by the ids of requests, for 24 hours."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    @contextmanager
    def attempt(self, id: bytes, fingerprint: bytes) -> Iterator[Attempt]:  # noqa: A002  # the column's name
        """The transaction of a request; committed at the end of the block, with what `keep` stored.

        Raises:
            RequestInFlightError: another one of this id has not ended.
            KeyReusedError: one of this id was answered, and its fingerprint is another.
        """
        with self._database.begin() as work:
            if not work.connection.execute(_TRY, {"id": f"mesh.idempotency:{id.hex()}"}).scalar_one():
                raise RequestInFlightError("The first request with this Idempotency-Key is still being worked on.")
            # By primary key; a statement of its own, since it must see what was committed before the lock was free.
            row = work.connection.execute(select(idempotency_keys).where(idempotency_keys.c.id == id)).first()
            if row is not None and row.created_at <= self._clock() - KEPT_FOR:
                work.connection.execute(delete(idempotency_keys).where(idempotency_keys.c.id == id))
                row = None
            if row is not None and row.fingerprint != fingerprint:
                raise KeyReusedError("This Idempotency-Key came with another body before: use a new key.")
            yield Attempt(id, fingerprint, work, Kept(row.status, row.headers, row.body) if row else None)

    def keep(self, attempt: Attempt, answer: Kept) -> None:
        """Store the answer to a first request, in its transaction."""
        attempt.work.connection.execute(
            insert(idempotency_keys).values(
                id=attempt.id,
                fingerprint=attempt.fingerprint,
                status=answer.status,
                headers=dict(answer.headers),
                body=answer.body,
                created_at=self._clock(),
            )
        )
