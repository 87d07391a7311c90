"""What becomes of worker and beat processes: Redis that drops under them, SIGTERM, and deaths of pools and leaders."""

import signal
from collections.abc import Callable

from redis import Redis

from mesh.dispatch.queues import CONTROL
from mesh.networks.views import AgentConfig
from tests.integration.workers.conftest import Fleet
from tests.system import eventually

LEASE_SECONDS = 15.0
FIRST_JOB_SECONDS = 30.0
BETWEEN_SECONDS = 0.3


def test_a_running_step_ends_once_when_redis_drops_and_the_worker_lives_on(
    fleet: Fleet, restart_valkey: Callable[[], None]
) -> None:
    """Celery 5.7 exits here when jobs are acknowledged late; ours are acknowledged early."""
    worker = fleet.worker()
    fleet.serving(worker)
    fleet.sandbox.latency(1.0)
    network_id = fleet.network()
    first = fleet.submit(network_id)
    fleet.sandbox.started(1)
    restart_valkey()
    second = fleet.submit(network_id)
    assert fleet.ended(network_id, first).status == "completed"
    assert fleet.ended(network_id, second).status == "completed"
    assert worker.poll() is None, fleet.log(worker)
    assert len(fleet.sandbox.calls()) == 6
    assert {row.attempt for row in fleet.rows("SELECT attempt FROM steps")} == {1}


def test_a_slot_that_gets_free_in_a_full_worker_takes_the_next_permit_at_once(fleet: Fleet) -> None:
    """Celery's consumer, left to itself, would look once a second."""
    network_id = fleet.network()
    tasks = [fleet.submit(network_id) for _ in range(6)]
    fleet.worker(slots=1)
    for task_id in tasks:
        fleet.ended(network_id, task_id)
    idle = "SELECT started_at - lag(finished_at) OVER (ORDER BY started_at) AS pause, kind, iteration FROM steps"
    pauses = sorted(row.pause.total_seconds() for row in fleet.rows(idle) if row.pause is not None)
    # Five of them are between tasks, where the slot comes back to Celery; one or two may be the machine's.
    assert pauses[-3] < BETWEEN_SECONDS, pauses


def test_sigterm_finishes_what_runs_and_begins_nothing_new(fleet: Fleet) -> None:
    worker = fleet.worker(slots=1)
    fleet.serving(worker)
    fleet.sandbox.latency(1.5)
    network_id = fleet.network()
    running, waiting = fleet.submit(network_id), fleet.submit(network_id)
    fleet.sandbox.started(1)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=20) == 0, fleet.log(worker)
    assert len(fleet.sandbox.calls()) == 1
    states = "SELECT state, kind FROM steps WHERE task_id = :id ORDER BY id"
    assert list(fleet.rows(states, id=running)) == [("succeeded", "decision"), ("ready", "agent")]
    assert list(fleet.rows(states, id=waiting)) == [("ready", "decision")]
    assert fleet.rows("SELECT 1 FROM workers") == [], "the lease is given up, so that nobody has to wait for its end"


def test_a_custom_type_is_served_by_its_own_pool_and_by_the_common_one_when_that_died(fleet: Fleet) -> None:
    pool = fleet.worker("--agents", "seo")
    fleet.serving(pool, fleet.worker())
    network_id = fleet.network(AgentConfig("Search Specialist", "seo"))
    queue = "SELECT queue, state FROM steps WHERE task_id = :id AND agent_type = 'seo'"
    first = fleet.submit(network_id)
    assert fleet.ended(network_id, first).status == "completed"
    assert list(fleet.rows(queue, id=first)) == [("agent.seo", "succeeded")]

    fleet.kill(pool)
    second = fleet.submit(network_id)
    eventually(lambda: fleet.rows(queue, id=second), every=0.02)
    assert list(fleet.rows(queue, id=second)) == [("agent.seo", "ready")], "its lease has not ended yet"
    assert fleet.ended(network_id, second, LEASE_SECONDS + 10).status == "completed"
    assert list(fleet.rows(queue, id=second)) == [("agent.custom", "succeeded")]


def test_when_the_leading_beat_is_killed_the_other_one_schedules(fleet: Fleet) -> None:
    """One schedules at a time; the first job of the new leader comes 30 s after it began to lead."""
    beats = [fleet.beat(), fleet.beat()]
    fleet.serving(*beats)
    eventually(lambda: any("beat_leads" in fleet.log(beat) for beat in beats))
    leader = next(beat for beat in beats if "beat_leads" in fleet.log(beat))
    other = next(beat for beat in beats if beat is not leader)
    assert "beat_leads" not in fleet.log(other)
    fleet.kill(leader)
    assert eventually(lambda: "beat_leads" in fleet.log(other), every=0.05) < 5
    with Redis.from_url(fleet.mesh.settings.redis_url) as client:
        assert not client.exists(CONTROL)
        eventually(lambda: client.llen(CONTROL), FIRST_JOB_SECONDS + 5)
