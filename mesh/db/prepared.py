"""Prepared statements: what a worker runs for every step is parsed and planned once a connection.

Parsing and planning is four fifths of what PostgreSQL spends on a claim (0.35 of 0.43 ms, measured).  A plan that is
kept must stay right while its tables grow from nothing, which the planner does not see to; so such statements may use
nothing but index scans and nested loops (to hash a table that is empty yet, it would read the whole of it later), which
is what they are written for.  Agents' workers say so for the whole session; processes that also search and sum up say
it for the transaction, in the same round trip.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from psycopg2 import Error
from sqlalchemy import Connection, Result
from sqlalchemy.engine import IteratorResult
from sqlalchemy.engine.result import SimpleResultMetaData

from mesh.db.session import Session

# The execution option of connections whose session says it.
WHOLE_SESSION = "mesh_prepares_in_session"

_OFF = ("enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin")
_OPTIONS = {"plan_cache_mode": "force_generic_plan", **dict.fromkeys(_OFF, "off")}
SESSION_OPTIONS = " ".join(f"-c {name}={value}" for name, value in _OPTIONS.items())
_SET_LOCAL = "".join(f"SET LOCAL {name} = {value}; " for name, value in _OPTIONS.items())

_PARAMETER = re.compile(r"(?<!:):([a-z_]+)")


class Prepared:
    """SQL with `:name` parameters; `types` names the type of each that is not text."""

    def __init__(self, sql: str, **types: str) -> None:
        names = list(dict.fromkeys(_PARAMETER.findall(sql)))
        self._name = f"mesh_{hashlib.sha256(sql.encode()).hexdigest()[:16]}"
        numbered = _PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", sql)
        listed = ", ".join(types.get(name, "text") for name in names)
        self._prepare = f"PREPARE {self._name} ({listed}) AS {numbered}"
        self._execute = f"EXECUTE {self._name} ({', '.join(f'%({name})s' for name in names)})"
        self._columns: SimpleResultMetaData | None = None

    def execute(self, connection: Connection, values: Mapping[str, Any]) -> Result[Any]:
        """Run it with `values`, which may hold more than its parameters.

        It goes to the session itself: what SQLAlchemy finds out anew about each statement and its columns takes more
        time than the rest of the round trip.
        """
        session, statement = self._made_ready(connection)
        with self._errors_of(connection), session.cursor() as cursor:
            cursor.execute(statement, values)
            rows = cursor.fetchall() if cursor.description else []
            if self._columns is None:
                self._columns = SimpleResultMetaData([column.name for column in cursor.description or ()])
        return IteratorResult(self._columns, iter(rows))

    def send(self, connection: Connection, values: Mapping[str, Any]) -> None:
        """Run it without waiting for an answer: with the next statement, or the commit, which then raises its error.

        Not within a savepoint, which would not contain that error.
        """
        session, statement = self._made_ready(connection)
        with self._errors_of(connection):
            session.later(statement, values)

    @contextmanager
    def _errors_of(self, connection: Connection) -> Iterator[None]:
        """Errors are SQLAlchemy's: it knows a lost session by any name, and gives up those beside it."""
        try:
            yield
        except BaseException as error:  # noqa: BLE001  # it is raised again
            statement = self._execute if isinstance(error, Error) else None
            # Not public, but what every statement of SQLAlchemy's goes through; it always raises.
            connection._handle_dbapi_exception(error, statement, None, None, None)

    def _made_ready(self, connection: Connection) -> tuple[Session, str]:
        """The session of `connection`, in which it is prepared and a transaction may begin; and what to run there."""
        if not connection.in_transaction():
            connection.begin()
        known: set[str] = connection.info.setdefault("mesh_prepared", set())
        if self._name not in known:
            connection.exec_driver_sql(self._prepare)
            known.add(self._name)
        options = "" if connection.get_execution_options().get(WHOLE_SESSION) else _SET_LOCAL
        return cast(Session, connection.connection.dbapi_connection), options + self._execute
