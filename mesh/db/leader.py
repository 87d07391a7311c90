"""Session locks: one process of several does a thing, as long as its database session lives.

A session-level advisory lock (PostgreSQL documentation, 13.3.5): it ends with the session, so a leader that dies needs
no time-out.  It needs a session of its own - no transaction pooler may stand between.

A worker holds one with its own id: so others know that it died before its lease is over (`mesh.tasks.leases`).
"""

import structlog
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

log = structlog.get_logger(__name__)

# What is done by one.
SWEEP = "mesh.sweep"
BEAT = "mesh.beat"


def number(key: str) -> str:
    """SQL for the lock's number; `key` is a column or parameter that holds its key."""
    return f"hashtextextended({key}, 0)"


_TRY = text(f"SELECT pg_try_advisory_lock({number(':key')})")


class SessionLock:
    """A candidate for the lock `key`; not for use by several threads at once."""

    def __init__(self, engine: Engine, key: str) -> None:
        self._engine = engine
        self._key = key
        self._session: Connection | None = None

    def held(self) -> bool:
        """Whether this process holds the lock now: tries to take it, or makes sure that it still has it."""
        try:
            if self._session is not None:
                self._session.execute(text("SELECT 1"))
                return True
            return self._try()
        except (DBAPIError, PoolTimeoutError) as error:
            log.warning("session_lock_lost", key=self._key, error=type(error).__name__)
            self.resign()
            return False

    def _try(self) -> bool:
        session = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            if session.execute(_TRY, {"key": self._key}).scalar_one():
                self._session = session
                return True
        finally:
            if self._session is None:
                session.close()
        return False

    def resign(self) -> None:
        """Let another one have it; the session is closed, not returned to the pool with its lock."""
        if self._session is not None:
            session, self._session = self._session, None
            session.invalidate()
            session.close()
