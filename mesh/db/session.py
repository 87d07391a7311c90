"""The session: a psycopg2 connection that goes to the server as seldom as it can.

psycopg2 sends BEGIN in a round trip of its own.  Here it travels with the transaction's first statement; and statements
whose answer nobody waits for travel with the next one, or with COMMIT (PostgreSQL documentation, 54.2.2.1: several
statements in a simple query).  To psycopg2 every session is in autocommit mode; the transactions are ours.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from psycopg2 import extensions
from psycopg2.sql import Composable

Query = str | bytes | Composable
Values = Mapping[str, Any] | Sequence[Any] | None


_WITHIN = (extensions.TRANSACTION_STATUS_INTRANS, extensions.TRANSACTION_STATUS_INERROR)


class Session(extensions.connection):
    """A connection in one of two modes: transactions at the server's default level, or every statement by itself."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401  # psycopg2's
        super().__init__(*args, **options)
        self.autocommit = True
        self.cursor_factory = Cursor
        self._by_statement = False
        self._waiting: list[bytes] = []

    def set_isolation_level(self, level: int | str | None) -> None:
        """Change the mode, without a word to the server between transactions; one that has begun is undone."""
        if self.get_transaction_status() in _WITHIN:
            self.rollback()
        self._by_statement = level == extensions.ISOLATION_LEVEL_AUTOCOMMIT

    def later(self, statement: str, values: Values = None) -> None:
        """Send `statement` with whatever is sent next, or with COMMIT, which then raises its error."""
        with self.cursor() as cursor:
            self._waiting.append(cursor.mogrify(statement, values))

    def commit(self) -> None:
        """End the transaction, if one has begun or statements wait for it."""
        if self._waiting or self._begun:
            self._send(b"COMMIT")

    def rollback(self) -> None:
        """Undo the transaction, if one has begun; what waits is never sent."""
        self._waiting.clear()
        if self._begun:
            self._send(b"ROLLBACK")

    def ahead(self) -> bytes:
        """What must go out before the next statement, and waits no more."""
        begin = [] if self._by_statement or self._begun else [b"BEGIN"]
        before, self._waiting = [*begin, *self._waiting], []
        return b"".join(statement + b"; " for statement in before)

    @property
    def _begun(self) -> bool:
        """Whether the server is within a transaction, or the session is lost, which it is to say by itself."""
        return self.get_transaction_status() != extensions.TRANSACTION_STATUS_IDLE

    def _send(self, end: bytes) -> None:
        with self.cursor() as cursor:
            cursor.execute(end)


class Cursor(extensions.cursor):
    """A session's cursor: what it runs takes what waits along."""

    connection: Session  # always, see above

    def execute(self, query: Query, vars: Values = None) -> None:  # noqa: A002  # psycopg2's name
        """See psycopg2."""
        statement = self.mogrify(query, vars)  # fails before anything that waits is taken
        super().execute(self.connection.ahead() + statement)

    def executemany(self, query: Query, vars_list: Iterable[Values]) -> None:
        """See psycopg2."""
        if ahead := self.connection.ahead():
            super().execute(ahead)
        super().executemany(query, vars_list)
