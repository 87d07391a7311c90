"""Things that happen at a commit: the moments at which a process, a network or another worker may interfere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import OperationalError

Action = Callable[[Connection], object]


@contextmanager
def at_commit(engine: Engine, number: int, action: Action) -> Iterator[None]:
    """Do `action` just before the commit with that number, counted from 1, takes place."""
    numbers = count(1)

    def commit(connection: Connection) -> None:
        if next(numbers) == number:
            action(connection)

    event.listen(engine, "commit", commit)
    try:
        yield
    finally:
        event.remove(engine, "commit", commit)


def lose_answer(connection: Connection) -> None:
    """The commit takes place, but the connection breaks before it says so."""
    assert connection.connection.dbapi_connection is not None
    connection.connection.dbapi_connection.commit()
    raise OperationalError("COMMIT", {}, ConnectionError("reset by peer"))


def break_off(_connection: Connection) -> None:
    """The connection breaks before the commit takes place."""
    raise OperationalError("COMMIT", {}, ConnectionError("reset by peer"))
