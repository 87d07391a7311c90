"""Unit of work: all or nothing, messages after the commit, and an outage is an error of its own."""

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Barrier

import pytest
from psycopg2.extensions import set_wait_callback
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.pool import NullPool, QueuePool

from mesh.db import engine as engines
from mesh.db.prepared import Prepared
from mesh.db.unit_of_work import Database, UnitOfWork
from mesh.embedded.postgres import Postgres
from mesh.embedded.supervisor import Supervisor
from mesh.errors import ConfigurationError, ContentionError, UnavailableError
from tests.system import eventually, running

APPEND = text("UPDATE notes SET note = note || '+' WHERE note LIKE :note")


@pytest.fixture
def database(engine: Engine) -> Database:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE notes (note text PRIMARY KEY)"))
    return Database(engine)


def write(*texts: str) -> Callable[[UnitOfWork], None]:
    def insert(work: UnitOfWork) -> None:
        for note in texts:
            work.connection.execute(text("INSERT INTO notes VALUES (:note)"), {"note": note})

    return insert


def do(database: Database, *writes: Callable[[UnitOfWork], object]) -> None:
    with database.begin() as work:
        for one in writes:
            one(work)


def notes(database: Database) -> list[str]:
    with database.begin() as work:
        return list(work.connection.execute(text("SELECT note FROM notes ORDER BY note")).scalars())


def pid_of(work: UnitOfWork) -> int:
    """The server's process behind the session."""
    return int(work.connection.execute(text("SELECT pg_backend_pid()")).scalar_one())


def end_session(work: UnitOfWork) -> None:
    """What a restart of the server does to a session."""
    end_sessions(work.connection.engine, pid_of(work))


def end_sessions(engine: Engine, *pids: int) -> None:
    killer = create_engine(engine.url, poolclass=NullPool)
    with killer.connect() as connection:
        for pid in pids:
            assert connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid}).scalar_one()


def test_messages_leave_in_order_after_the_commit(database: Database) -> None:
    seen: list[tuple[int, list[str]]] = []
    with database.begin() as work:
        write("a")(work)
        work.after_commit(lambda: seen.append((1, notes(database))))
        work.after_commit(lambda: seen.append((2, notes(database))))
        assert seen == []
    assert seen == [(1, ["a"]), (2, ["a"])]


def test_nothing_is_stored_or_sent_when_the_block_raises(database: Database) -> None:
    sent: list[str] = []
    with pytest.raises(IntegrityError):
        do(database, lambda work: work.after_commit(lambda: sent.append("sent")), write("a", "a"))
    assert notes(database) == []
    assert sent == []


def test_a_session_that_breaks_off_is_unavailable_and_the_next_one_works(database: Database) -> None:
    with pytest.raises(UnavailableError):
        do(database, end_session, write("a"))
    do(database, write("b"))
    assert notes(database) == ["b"]


def test_a_crash_of_the_server_is_an_outage_to_the_sessions_that_were_idle(tmp_path: Path) -> None:
    """psycopg2 has another name for it then, and takes the session for a good one."""
    asking = Prepared("SELECT :answer")
    with Supervisor() as services:
        postgres = Postgres(tmp_path, durable=False)
        postgres.prepare()
        services.add(postgres.part())
        services.wait_ready()
        database = Database(engines.create(postgres.url, name="test"))

        def ask_twice(_: UnitOfWork | None = None) -> list[int]:
            with database.begin() as work, database.begin() as other:
                for one in (work, other):
                    assert asking.execute(one.connection, {"answer": "a"}).scalar_one() == "a"
                return [pid_of(one) for one in (work, other)]

        idle, struck = ask_twice()
        os.kill(struck, signal.SIGKILL)
        eventually(lambda: not running([idle]))
        with pytest.raises(UnavailableError):
            ask_twice()
        assert not {idle, struck} & set(database.persist(ask_twice))


def test_what_ends_a_greenlet_within_a_statement_goes_through_and_costs_its_session_only(database: Database) -> None:
    sleeping = Prepared("SELECT pg_sleep(:seconds)", seconds="float8")

    def interrupt(_: object) -> None:  # as gevent does to what waits
        set_wait_callback(None)
        raise SystemExit

    def sleep() -> None:
        with database.begin() as work:
            sleeping.execute(work.connection, {"seconds": 0.01})

    with database.begin() as work, database.begin() as other:
        pids = {pid_of(one) for one in (work, other)}
    sleep()  # it is prepared
    set_wait_callback(interrupt)
    with pytest.raises(SystemExit):
        sleep()
    with database.begin() as work, database.begin() as other:
        assert len(pids & {pid_of(one) for one in (work, other)}) == 1


@pytest.mark.parametrize("atomic", [True, False])
def test_a_restart_breaks_off_one_transaction_and_not_one_a_session(database: Database, *, atomic: bool) -> None:
    inserting = Prepared("INSERT INTO notes VALUES (:note)")

    def insert_together(*notes: str) -> list[int]:
        with ExitStack() as stack:
            works = [stack.enter_context(database.begin(atomic=atomic)) for _ in notes]
            for work, note in zip(works, notes, strict=True):
                inserting.execute(work.connection, {"note": note})
            return [pid_of(work) for work in works]

    end_sessions(database.engine, *insert_together("a", "b", "c"))
    with pytest.raises(UnavailableError):
        insert_together("d")
    insert_together("e", "f", "g")
    assert notes(database) == ["a", "b", "c", "e", "f", "g"]


def test_a_server_that_cannot_be_reached_is_unavailable() -> None:
    engine = engines.create("postgresql://mesh@127.0.0.1:1/mesh", name="test")
    with pytest.raises(UnavailableError), Database(engine).begin():
        pass


def test_no_free_connection_is_unavailable(engine: Engine) -> None:
    busy = create_engine(engine.url, poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=0.05)
    with busy.connect(), pytest.raises(UnavailableError), Database(busy).begin():
        pass
    busy.dispose()


def test_what_must_not_be_lost_is_written_again_until_the_database_answers(database: Database) -> None:
    tries: list[int] = []

    def twice_broken(work: UnitOfWork) -> str:
        tries.append(1)
        write("a")(work)
        if len(tries) < 3:
            end_session(work)
        return "stored"

    assert database.persist(twice_broken) == "stored"
    assert len(tries) == 3
    assert notes(database) == ["a"]


def test_a_fault_of_the_write_is_not_repeated(database: Database) -> None:
    tries: list[int] = []

    def wrong(work: UnitOfWork) -> None:
        tries.append(1)
        write("a", "a")(work)

    with pytest.raises(IntegrityError):
        database.persist(wrong)
    assert len(tries) == 1


def test_two_writes_that_wait_for_each_other_are_both_stored_and_no_outage_is_reported(
    database: Database, capfd: pytest.CaptureFixture[str]
) -> None:
    """PostgreSQL undoes one of them, which is written again."""
    do(database, write("a", "b"))
    both_hold_one = Barrier(2)
    tries: list[str] = []

    def update(first: str, second: str) -> None:
        def in_this_order(work: UnitOfWork) -> None:
            tries.append(first)
            work.connection.execute(APPEND, {"note": f"{first}%"})
            if len(tries) <= 2:
                both_hold_one.wait(timeout=10)
            work.connection.execute(APPEND, {"note": f"{second}%"})

        database.persist(in_this_order)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(update, ("a", "b"), ("b", "a")))
    assert notes(database) == ["a++", "b++"]
    assert len(tries) == 3
    assert "database_away" not in "".join(capfd.readouterr())


def test_a_transaction_that_clashed_with_another_says_so(database: Database) -> None:
    do(database, write("a"))

    def clash(work: UnitOfWork) -> None:
        work.connection.execute(text("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"))
        work.connection.execute(text("SELECT * FROM notes"))
        do(database, lambda other: other.connection.execute(APPEND, {"note": "a%"}))
        work.connection.execute(APPEND, {"note": "a%"})

    with pytest.raises(ContentionError):
        do(database, clash)
    assert notes(database) == ["a+"]


def test_a_write_that_waited_too_long_for_others_is_repeated_and_is_no_outage(
    database: Database, capfd: pytest.CaptureFixture[str]
) -> None:
    tries: list[int] = []

    def slow(work: UnitOfWork) -> None:
        tries.append(1)
        work.connection.execute(text("SET LOCAL statement_timeout = 20"))
        if len(tries) < 3:
            work.connection.execute(text("SELECT pg_sleep(5)"))

    database.persist(slow)
    assert len(tries) == 3
    assert "database_away" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("url", ["", "sqlite://", "mysql://somewhere/mesh"])
def test_an_address_that_is_not_postgresqls_says_so(url: str) -> None:
    with pytest.raises(ConfigurationError, match="MESH_DATABASE_URL"):
        engines.create(url, name="test")


def test_a_single_statement_is_all_that_goes_to_the_server(database_url: str) -> None:
    """Neither BEGIN and COMMIT nor a word about the change between the two ways of working."""
    engine = engines.create(database_url, name="single")
    database = Database(engine)
    for atomic in (False, True, False):
        with database.begin(atomic=atomic) as work:
            work.connection.execute(text("SELECT 'mine'"))
    latest = "SELECT query FROM pg_stat_activity WHERE application_name = 'single' AND datname = current_database()"
    with create_engine(database_url, poolclass=NullPool).connect() as other:
        assert other.execute(text(latest)).scalars().all() == ["SELECT 'mine'"]
    engine.dispose()
