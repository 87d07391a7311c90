"""Answers kept for requests sent again: stored with what they tell of, or not at all, and for a day."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import func, select, text

from mesh.db.idempotency import KEPT_FOR, Idempotency, Kept
from mesh.db.tables import idempotency_keys, tasks
from mesh.errors import KeyReusedError, RequestInFlightError, UnavailableError
from mesh.retention.purge import Purge
from mesh.tasks.views import NewTask
from tests.integration.tasks.core import ANN, Core

ID, BODY = b"who, where, key", b"body"


@pytest.fixture
def idempotency(core: Core) -> Idempotency:
    return Idempotency(core.database, core.clock)


@pytest.fixture
def network(core: Core) -> str:
    return core.network()


def submit(core: Core, idempotency: Idempotency, network: str) -> str:
    """As the API does it; answers the task's id."""
    with idempotency.attempt(ID, BODY) as attempt:
        if attempt.first is not None:
            assert attempt.first.body
            return attempt.first.body
        task = core.tasks.submit(ANN, network, NewTask("x"), within=attempt.work)
        idempotency.keep(attempt, Kept(202, {}, task.task_id))
        return task.task_id


def rows(core: Core) -> list[int]:
    with core.database.begin() as work:
        count = work.connection.execute
        return [count(select(func.count()).select_from(table)).scalar_one() for table in (tasks, idempotency_keys)]


def test_equal_requests_at_once_make_one_task(core: Core, idempotency: Idempotency, network: str) -> None:
    def attempt(_: int) -> str | None:
        try:
            return submit(core, idempotency, network)
        except RequestInFlightError:
            return None

    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(attempt, range(24))) - {None}
    assert answers == {submit(core, idempotency, network)}
    assert rows(core) == [1, 1]
    assert core.dispatcher.sent.total() == 1


def test_while_the_first_is_worked_on_another_is_told_so_at_once(
    core: Core, idempotency: Idempotency, network: str
) -> None:
    with idempotency.attempt(ID, BODY), ThreadPoolExecutor(1) as pool:
        with pytest.raises(RequestInFlightError):
            pool.submit(submit, core, idempotency, network).result(timeout=5)
        with idempotency.attempt(b"another", BODY):
            pass


def test_a_connection_lost_before_the_commit_leaves_neither_task_nor_answer_and_wakes_nobody(
    core: Core, idempotency: Idempotency, network: str
) -> None:
    def submit_and_lose() -> None:
        with idempotency.attempt(ID, BODY) as attempt:
            task = core.tasks.submit(ANN, network, NewTask("x"), within=attempt.work)
            idempotency.keep(attempt, Kept(202, {}, task.task_id))
            pid = attempt.work.connection.execute(select(func.pg_backend_pid())).scalar_one()
            with core.database.begin() as work:
                work.connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})

    with pytest.raises(UnavailableError):
        submit_and_lose()
    assert rows(core) == [0, 0]
    assert not core.live.published
    assert not core.dispatcher.sent
    submit(core, idempotency, network)
    assert rows(core) == [1, 1]


def test_another_body_is_refused_for_a_day_and_then_it_is_a_new_request(
    core: Core, idempotency: Idempotency, network: str
) -> None:
    first = submit(core, idempotency, network)
    core.clock.advance((KEPT_FOR - timedelta(seconds=1)).total_seconds())
    with pytest.raises(KeyReusedError), idempotency.attempt(ID, b"other"):
        pass
    core.clock.advance(1)
    second = submit(core, idempotency, network)
    assert second not in {first, None}
    assert rows(core) == [2, 1]


def test_answers_are_purged_after_a_day(core: Core, idempotency: Idempotency, network: str) -> None:
    submit(core, idempotency, network)
    age = text("UPDATE idempotency_keys SET created_at = now() - CAST(:age AS interval)")
    for old, left in (("23 hours 59 minutes", 1), ("24 hours 1 minute", 0)):
        with core.database.begin() as work:
            work.connection.execute(age, {"age": old})
        Purge(core.database, core.tasks.stop_network).run()
        assert rows(core) == [1, left]
