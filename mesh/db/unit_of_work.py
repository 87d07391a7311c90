"""Unit of work: one transaction, and what is to be sent once it has committed.

Services open one per call; messages (permits, live events) leave after the commit, never inside it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from mesh.errors import UnavailableError


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

    @contextmanager
    def begin(self) -> Iterator[UnitOfWork]:
        """One transaction: committed at the end of the block, rolled back when it raises.

        Raises:
            UnavailableError: PostgreSQL cannot be reached, or broke off; whether a commit under way
                took place is then unknown.
        """
        try:
            with self.engine.begin() as connection:
                work = UnitOfWork(connection)
                yield work
        except (OperationalError, InterfaceError, PoolTimeoutError) as error:
            raise UnavailableError("The database does not answer; try again shortly.") from error
        except DBAPIError as error:
            if error.connection_invalidated:
                raise UnavailableError("The database broke off; try again shortly.") from error
            raise
        work.send()
