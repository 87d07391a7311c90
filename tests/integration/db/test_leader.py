"""Session locks: one of several, for as long as its session lives."""

import time
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.pool import QueuePool

from mesh.db import engine as engines
from mesh.db.leader import BEAT, SWEEP, SessionLock

Candidate = Callable[..., SessionLock]


@pytest.fixture
def other_engine(database_url: str) -> Iterator[Engine]:
    """Another process's."""
    engine = engines.create(database_url, name="other")
    yield engine
    engine.dispose()


@pytest.fixture
def candidate() -> Iterator[Candidate]:
    """`candidate(engine, key)`; each has resigned when the test ends."""
    made: list[SessionLock] = []

    def make(engine: Engine, key: str = SWEEP) -> SessionLock:
        made.append(SessionLock(engine, key))
        return made[-1]

    yield make
    for leadership in made:
        leadership.resign()


def end_sessions(name: str, by: Engine) -> None:
    """What becomes of a process that is killed, or whose network breaks."""
    query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = :name"
    with by.connect() as connection:
        connection.execute(text(query), {"name": name})


def until(true: Callable[[], bool], seconds: float = 10) -> None:
    """The server ends a session a moment after the client has left it."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.01)


def test_one_leads_and_keeps_leading(engine: Engine, other_engine: Engine, candidate: Candidate) -> None:
    first, second = candidate(engine), candidate(other_engine)
    assert [first.held(), second.held(), first.held(), second.held()] == [True, False, True, False]


def test_two_things_may_have_two_leaders(engine: Engine, other_engine: Engine, candidate: Candidate) -> None:
    assert candidate(engine).held()
    assert candidate(other_engine, BEAT).held()


def test_another_one_leads_after_resignation(engine: Engine, other_engine: Engine, candidate: Candidate) -> None:
    first, second = candidate(engine), candidate(other_engine)
    assert first.held()
    first.resign()
    until(second.held)
    assert not first.held()


def test_a_leader_whose_session_ended_knows_it_and_is_followed(
    engine: Engine, other_engine: Engine, candidate: Candidate
) -> None:
    first, second = candidate(engine), candidate(other_engine)
    assert first.held()
    end_sessions("test", by=other_engine)
    until(second.held)
    assert not first.held()


def test_a_candidate_keeps_no_connection(engine: Engine, other_engine: Engine, candidate: Candidate) -> None:
    assert candidate(engine).held()
    assert not candidate(other_engine).held()
    assert other_engine.pool.status().endswith("Current Checked out connections: 0")


def test_without_a_free_connection_nobody_is_elected(engine: Engine, candidate: Candidate) -> None:
    """A worker whose slots use every connection must not lose the thread that sweeps."""
    busy = create_engine(engine.url, poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=0.05)
    leadership = candidate(busy)
    with busy.connect():
        assert not leadership.held()
    assert leadership.held()
    leadership.resign()
    busy.dispose()
