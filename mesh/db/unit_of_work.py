"""Unit of work: one transaction, and what is to be sent once it has committed.

Services open one per call; messages (permits, live events) leave after the commit, never inside it.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from mesh.errors import ContentionError, MeshError, UnavailableError

T = TypeVar("T")

log = structlog.get_logger(__name__)

# How long something paid for is kept in hand while the database is away: longer than any restart or failover.
PERSIST_SECONDS = 300.0
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0

# SQLSTATEs (PostgreSQL documentation, appendix A) that psycopg2 counts among outages, and that are none.
# serialization_failure, deadlock_detected, and query_canceled: no statement of ours takes `statement_timeout` but one
# that waits for others.
_CONTENTION = frozenset({"40001", "40P01", "57014"})


class UnitOfWork:
    """An open transaction: `connection` to work with, `after_commit` to send."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._deferred: list[Callable[[], None]] = []

    def after_commit(self, send: Callable[[], None]) -> None:
        """Call `send` when the transaction has committed, in the order given; never when it rolled back.

        `send` must not raise: what it sends is a wake-up, and the sweep makes up for one that was lost.
        """
        self._deferred.append(send)

    def send(self) -> None:
        """Run what was deferred; called by `Database.begin` after the commit."""
        for send in self._deferred:
            send()


class Database:
    """Transactions on one engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._by_statement = engine.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def begin(self, *, atomic: bool = True, within: UnitOfWork | None = None) -> Iterator[UnitOfWork]:
        """One transaction: committed at the end of the block, rolled back when it raises.

        With `within` it is that one, which ends with whoever began it.  With `atomic=False` every statement is a
        transaction of its own, which saves two round trips: for single statements, and for reads that need not agree
        with each other.

        Raises:
            UnavailableError: PostgreSQL cannot be reached, or broke off; whether a commit under way
                took place is then unknown.
            ContentionError: PostgreSQL undid the transaction for the sake of another one.
        """
        if within is not None:
            yield within
            return
        try:
            with (self.engine if atomic else self._by_statement).begin() as connection:
                work = UnitOfWork(connection)
                yield work
        except (DBAPIError, PoolTimeoutError) as error:
            if (meaning := _meaning(error)) is None:
                raise
            raise meaning from error
        work.send()

    def persist(self, write: Callable[[UnitOfWork], T], *, atomic: bool = True) -> T:
        """Run `write` in a transaction of its own, again and again until the database answers and no other undoes it.

        For what must not be lost, such as a reply that was paid for.  A commit that broke off may have taken place,
        so `write` must find that out itself (a fence, a conflict) when it runs once more.

        Raises:
            UnavailableError: the database stayed away for five minutes.
            ContentionError: others undid it for five minutes.
        """
        give_up = time.monotonic() + PERSIST_SECONDS
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                with self.begin(atomic=atomic) as work:
                    return write(work)
            except (UnavailableError, ContentionError) as error:
                if time.monotonic() > give_up:
                    raise
                if isinstance(error, UnavailableError):
                    log.warning("database_away", error=type(error.__cause__).__name__, retry_seconds=pause)
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def _meaning(error: DBAPIError | PoolTimeoutError) -> MeshError | None:
    """What `error` is to callers; None: a fault of the statement, which passes through as it is."""
    state = getattr(getattr(error, "orig", None), "pgcode", None)
    if state in _CONTENTION:
        return ContentionError("Another request changed the same data; try again.")
    away = isinstance(error, OperationalError | InterfaceError | PoolTimeoutError)
    if away or (isinstance(error, DBAPIError) and error.connection_invalidated):
        return UnavailableError("The database does not answer; try again shortly.")
    return None
