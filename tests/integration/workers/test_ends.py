"""A task ends when it is told to or when its time is over, whatever it is doing; what hangs is cut off and charged."""

import time
from datetime import timedelta

import pytest

from mesh import clock
from mesh.security.principal import LOCAL
from tests.integration.workers.conftest import Fleet
from tests.system import eventually

# The sweep comes every two seconds; what hangs is stopped within as much again.
NOTICED_SECONDS = 5.0

pytestmark = pytest.mark.xdist_group("workers-ends")


def _call_ended_by_us(fleet: Fleet, task_id: str, *, calls: int = 1) -> None:
    """The provider saw its callers go away, and each call is charged in full as an estimate."""
    eventually(
        lambda: [call["disconnected"] for call in fleet.sandbox.calls()] == [True] * calls, NOTICED_SECONDS, every=0.05
    )
    rows = "SELECT * FROM model_calls WHERE task_id = :id"
    eventually(lambda: all(row.state != "reserved" for row in fleet.rows(rows, id=task_id)), NOTICED_SECONDS)
    charged = fleet.rows(rows, id=task_id)
    assert [row.id for row in charged] == [call["call"] for call in fleet.sandbox.calls()]
    assert all(row.state in {"cancelled", "failed"} and row.estimated for row in charged)
    assert all(row.cost_usd == row.reserved_usd > 0 for row in charged)


def test_a_cancelled_task_says_so_at_once_and_its_call_is_cut_off_and_charged(working: Fleet) -> None:
    working.sandbox.fault("hang")
    network_id = working.network()
    task_id = working.submit(network_id)
    working.sandbox.started(1)
    asked = time.monotonic()
    assert working.mesh.tasks.cancel(LOCAL, network_id, task_id).status == "cancelled"
    assert working.task(network_id, task_id).status == "cancelled"
    assert time.monotonic() - asked < 1
    _call_ended_by_us(working, task_id)
    assert {row.state for row in working.rows("SELECT state FROM steps WHERE task_id = :id", id=task_id)} == {
        "cancelled"
    }


@pytest.mark.parametrize(("limit", "code"), [("deadline", "deadline_exceeded"), ("timeout", "timeout")])
def test_a_task_whose_calls_hang_ends_when_its_time_is_over(working: Fleet, limit: str, code: str) -> None:
    working.sandbox.fault("hang")
    network_id = working.network(timeout_seconds=2 if limit == "timeout" else 300)
    deadline = clock.now() + timedelta(seconds=2)
    begun = time.monotonic()
    task_id = working.submit(network_id, deadline=deadline if limit == "deadline" else None)
    task = working.ended(network_id, task_id)
    assert 2 - 0.1 < time.monotonic() - begun < 2 + NOTICED_SECONDS
    assert (task.status, task.error and task.error["code"]) == ("failed", code)
    # Each of the four providers was given its share of the two seconds.
    _call_ended_by_us(working, task_id, calls=len(working.sandbox.calls()))


def test_a_task_that_waits_for_a_provider_ends_at_its_deadline(working: Fleet) -> None:
    """No slot waits with it: another task passes meanwhile."""
    working.sandbox.fault("429;60")
    network_id = working.network()
    task_id = working.submit(network_id, deadline=clock.now() + timedelta(seconds=3))
    parked = "SELECT 1 FROM steps WHERE task_id = :id AND state = 'ready' AND not_before > now() + interval '30 s'"
    eventually(lambda: working.rows(parked, id=task_id), every=0.02)
    working.sandbox.clear_faults()
    # The models that were asked rest for everybody, this one does not.
    other = working.submit(network_id, model_selection={"model": "gpt-4o-mini"})
    assert working.ended(network_id, other).status == "completed"
    task = working.ended(network_id, task_id, 3 + NOTICED_SECONDS)
    assert (task.status, task.error and task.error["code"]) == ("failed", "deadline_exceeded")


def test_a_held_task_ends_at_its_deadline(working: Fleet) -> None:
    network_id = working.network()
    task_id = working.submit(network_id, auto_process=False, deadline=clock.now() + timedelta(seconds=1))
    task = working.ended(network_id, task_id, 1 + NOTICED_SECONDS)
    assert (task.status, task.error and task.error["code"]) == ("failed", "deadline_exceeded")
    assert working.sandbox.calls() == []


def test_without_any_worker_time_runs_out_all_the_same(fleet: Fleet) -> None:
    """Beat sweeps; and what a dead worker had begun is charged, though nobody goes on with it."""
    worker = fleet.worker()
    fleet.serving(worker, fleet.beat())
    fleet.sandbox.fault("hang")
    network_id = fleet.network()
    running = fleet.submit(network_id, deadline=clock.now() + timedelta(seconds=4))
    fleet.sandbox.started(1)
    fleet.kill(worker)
    waiting = fleet.submit(fleet.network(timeout_seconds=2))
    task = fleet.ended(network_id, running, 4 + NOTICED_SECONDS)
    assert (task.status, task.error and task.error["code"]) == ("failed", "deadline_exceeded")
    eventually(lambda: fleet.rows("SELECT 1 FROM tasks WHERE id = :id AND status = 'failed'", id=waiting))
    states = "SELECT DISTINCT state FROM model_calls"
    eventually(lambda: list(fleet.rows(states)) == [("cancelled",)], 15 + NOTICED_SECONDS)
