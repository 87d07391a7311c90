"""Sessions: a transaction is one, whatever goes to the server together."""

from collections.abc import Callable, Iterator
from typing import cast

import pytest
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT, TRANSACTION_STATUS_IDLE, TRANSACTION_STATUS_INTRANS
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import IntegrityError

from mesh.db.prepared import Prepared
from mesh.db.session import Session

NOTE = Prepared("INSERT INTO notes VALUES (:note)")
INSERT = text("INSERT INTO notes VALUES (:note)")


@pytest.fixture
def notes(engine: Engine) -> Iterator[Callable[[], list[str]]]:
    """What is stored, as others see it."""
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE notes (note text PRIMARY KEY)"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as others:
        yield lambda: list(others.execute(text("TABLE notes")).scalars())


def status(connection: Connection) -> int:
    return cast(Session, connection.connection.dbapi_connection).get_transaction_status()


def test_nothing_goes_to_the_server_before_an_answer_is_asked_for(
    engine: Engine, notes: Callable[[], list[str]]
) -> None:
    with engine.begin() as connection:
        NOTE.execute(connection, {"note": "prepared"})
    with engine.begin() as connection:
        assert status(connection) == TRANSACTION_STATUS_IDLE
        NOTE.send(connection, {"note": "a"})
        assert status(connection) == TRANSACTION_STATUS_IDLE
        assert connection.execute(text("SELECT count(*) FROM notes")).scalar_one() == 2, "it goes ahead of the question"
        assert status(connection) == TRANSACTION_STATUS_INTRANS
        NOTE.send(connection, {"note": "b"})
        assert notes() == ["prepared"], "nobody sees a transaction that is under way"
    assert notes() == ["prepared", "a", "b"]


def test_what_waits_is_one_transaction_with_all_else(engine: Engine, notes: Callable[[], list[str]]) -> None:
    def doubled() -> None:
        with engine.begin() as connection:
            connection.execute(INSERT, {"note": "a"})
            NOTE.send(connection, {"note": "b"})
            NOTE.send(connection, {"note": "a"})

    with pytest.raises(IntegrityError):
        doubled()
    assert notes() == []
    with engine.begin() as connection:
        NOTE.send(connection, {"note": "100 % of it; COMMIT"})
    assert notes() == ["100 % of it; COMMIT"]


def test_rows_and_errors_of_prepared_statements_are_like_all_others(
    engine: Engine, notes: Callable[[], list[str]]
) -> None:
    looking = Prepared("SELECT note, length(note) AS size FROM notes WHERE note <> :other ORDER BY note")
    for note in ("a", "bb"):
        with engine.begin() as connection:
            NOTE.execute(connection, {"note": note})
    with engine.connect() as connection:
        for _ in range(2):
            rows = looking.execute(connection, {"other": "a"})
            assert dict(rows.one()._mapping) == {"note": "bb", "size": 2}
        assert [row.note for row in looking.execute(connection, {"other": ""})] == ["a", "bb"]
        assert looking.execute(connection, {"other": "a", "more": "is ignored"}).scalar_one() == "bb"
        with pytest.raises(IntegrityError, match="notes_pkey") as refused:
            NOTE.execute(connection, {"note": "a"})
        assert "'a'" not in str(refused.value.statement)
    assert notes() == ["a", "bb"]


def test_what_waits_is_forgotten_with_its_transaction(engine: Engine, notes: Callable[[], list[str]]) -> None:
    with engine.connect() as connection:
        NOTE.send(connection, {"note": "a"})
        connection.rollback()
        connection.execute(INSERT, {"note": "b"})
        connection.rollback()
        NOTE.send(connection, {"note": "c"})  # and the block ends without a commit
    with engine.begin() as connection:
        connection.execute(INSERT, {"note": "d"})
    assert notes() == ["d"]


def test_many_rows_are_within_the_transaction(engine: Engine, notes: Callable[[], list[str]]) -> None:
    with engine.connect() as connection:
        connection.execute(INSERT, [{"note": "a"}, {"note": "b"}])
        assert notes() == []
        connection.commit()
    assert notes() == ["a", "b"]


def test_statements_by_themselves_need_no_commit(engine: Engine, notes: Callable[[], list[str]]) -> None:
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        connection.rollback()
        by_itself = connection.execution_options(isolation_level="AUTOCOMMIT")
        by_itself.execute(INSERT, {"note": "a"})
        assert notes() == ["a"]
        assert status(connection) == TRANSACTION_STATUS_IDLE


def test_what_waits_needs_no_transaction_begun_before(engine: Engine, notes: Callable[[], list[str]]) -> None:
    with engine.connect() as connection:
        NOTE.execute(connection, {"note": "a"})
        connection.commit()
        NOTE.send(connection, {"note": "b"})
        connection.commit()
    assert notes() == ["a", "b"]


def test_a_statement_that_cannot_be_sent_takes_nothing_with_it(engine: Engine, notes: Callable[[], list[str]]) -> None:
    with engine.begin() as connection:
        NOTE.send(connection, {"note": "a"})
        with pytest.raises(ValueError, match="NUL"):
            connection.execute(INSERT, {"note": "\0"})
    assert notes() == ["a"]


def test_going_over_to_single_statements_undoes_what_had_begun(engine: Engine, notes: Callable[[], list[str]]) -> None:
    with engine.connect() as connection:
        session = cast(Session, connection.connection.dbapi_connection)
        connection.execute(INSERT, {"note": "a"})
        session.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
        connection.execute(INSERT, {"note": "b"})
        assert notes() == ["b"]
        session.set_isolation_level(None)
