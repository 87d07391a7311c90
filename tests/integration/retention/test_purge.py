"""The purge: a deleted network is gone at once, its rows soon after, and what it cost stays."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import func, select, update

from mesh.agents.kinds import DEFAULTS
from mesh.db.tables import agents, events, memories, model_calls, networks, steps, tasks
from mesh.errors import NotFoundError, UnavailableError
from mesh.memory.service import Memory
from mesh.memory.views import NewMemory
from mesh.networks.service import Networks
from mesh.networks.views import AgentConfig
from mesh.retention import purge
from mesh.retention.purge import Purge
from mesh.tasks.service import STOP_BATCH
from tests.builders import MODELS, add_step, add_task, decision, reply_of, subtask
from tests.integration.tasks.core import ANN, Core

OWNED = (networks, agents, tasks, steps, events, memories)


@pytest.fixture
def service(core: Core) -> Networks:
    return networks_of(core, core.tasks.stop_network)


def networks_of(core: Core, stop_tasks: Callable[[str], None]) -> Networks:
    defaults = [AgentConfig(kind.name, kind.type) for kind in DEFAULTS]
    return Networks(core.database, core.clock, require_model=MODELS.require, defaults=defaults, stop_tasks=stop_tasks)


def purging(core: Core) -> Purge:
    return Purge(core.database, core.tasks.stop_network)


def rows(core: Core) -> dict[str, int]:
    with core.database.begin() as work:
        count = work.connection.execute
        return {table.name: count(select(func.count()).select_from(table)).scalar_one() for table in OWNED}


def used(core: Core) -> str:
    """A network with a finished task, a running one, and a memory."""
    network_id = core.network("content")
    Memory(core.database, core.clock).add(ANN, network_id, NewMemory("x"))
    core.submit(network_id)
    core.finish(core.claim(), decision())
    core.submit(network_id)
    core.finish(core.claim(), decision(subtask("a")))
    core.open_call(core.claim("content"))
    return network_id


def ledger(core: Core) -> list[tuple[Any, ...]]:
    with core.database.begin() as work:
        return [tuple(row) for row in work.connection.execute(select(model_calls).order_by(model_calls.c.id))]


def test_everything_of_a_deleted_network_goes_and_the_ledger_stays(core: Core, service: Networks) -> None:
    kept = used(core)
    of_kept, calls_of_kept = rows(core), len(ledger(core))
    service.delete(ANN, used(core))
    before = ledger(core)
    assert len(before) == 2 * calls_of_kept > 0
    assert purging(core).run() == 1
    assert rows(core) == of_kept
    assert ledger(core) == before
    assert service.get(ANN, kept).task_count == 2


def test_a_network_that_was_not_deleted_is_left_alone(core: Core) -> None:
    used(core)
    before = rows(core)
    assert purging(core).run() == 0
    assert rows(core) == before


def test_a_deleted_network_is_gone_before_any_purge(core: Core, service: Networks) -> None:
    network_id = used(core)
    [task, *_] = core.tasks.list(ANN, network_id, limit=1)
    service.delete(ANN, network_id)
    for look in (
        lambda: service.get(ANN, network_id),
        lambda: service.delete(ANN, network_id),
        lambda: core.tasks.get(ANN, network_id, task.task_id),
        lambda: core.submit(network_id),
        lambda: Memory(core.database, core.clock).list(ANN, network_id, limit=1),
    ):
        with pytest.raises(NotFoundError):
            look()
    assert service.list(ANN, limit=10) == []


def test_deleting_a_network_cancels_what_runs_and_waits_in_it(core: Core, service: Networks) -> None:
    network_id = core.network("content")
    running, waiting = core.submit(network_id), core.submit(network_id)
    held = core.submit(network_id, auto_process=False)
    claim = core.claim()
    service.delete(ANN, network_id)
    for task in (running, waiting, held):
        assert core.task(task.task_id).status == "cancelled"
    assert core.step(claim.step_id).state == "cancelled"
    assert core.event_types(running.task_id)[-1] == "complete"
    assert core.try_claim("agent.coordinator") is None


def test_who_submits_to_a_network_does_not_wait_until_its_tasks_are_stopped(core: Core) -> None:
    stopped = []

    def stop(network_id: str) -> None:
        with pytest.raises(NotFoundError):
            core.submit(network_id)
        stopped.append(network_id)

    network_id = core.network()
    networks_of(core, stop).delete(ANN, network_id)
    assert stopped == [network_id]


def test_a_network_is_deleted_even_if_its_tasks_cannot_be_stopped_now(core: Core) -> None:
    def away(_network_id: str) -> None:
        raise UnavailableError("The database does not answer.")

    network_id = core.network()
    task_id = core.submit(network_id).task_id
    service = networks_of(core, away)
    service.delete(ANN, network_id)
    assert service.list(ANN, limit=10) == []
    assert Purge(core.database, lambda _: None).run() == 0
    assert core.task(task_id).status == "processing"  # nothing is removed under those who run or watch it
    core.live.published.clear()
    assert purging(core).run() == 1
    assert [(of, event.type) for of, stored in core.live.published for event in stored] == [(task_id, "complete")]


def test_tasks_are_stopped_in_small_transactions(core: Core, service: Networks) -> None:
    network_id = core.network()
    with core.database.begin() as work:
        doomed = sorted(add_task(work.connection, network_id) for _ in range(STOP_BATCH + 1))
    with ThreadPoolExecutor(1) as worker:
        with core.database.begin() as work:
            work.connection.execute(select(tasks.c.id).where(tasks.c.id == doomed[-1]).with_for_update()).one()
            deletion = worker.submit(service.delete, ANN, network_id)
            give_up = time.monotonic() + 10
            while core.task(doomed[-2]).status != "cancelled":
                assert time.monotonic() < give_up
                time.sleep(0.01)
            assert not deletion.done()
        deletion.result(timeout=10)
    assert {core.task(task_id).status for task_id in doomed} == {"cancelled"}


def test_a_late_reply_of_a_purged_step_is_paid_and_stores_nothing(core: Core, service: Networks) -> None:
    network_id = core.network()
    core.submit(network_id)
    claim = core.claim()
    call_id = core.open_call(claim)
    service.delete(ANN, network_id)
    purging(core).run()
    core.orchestrator.finish(claim, reply_of(decision(), call_id))
    assert [row.state for row in core.calls(claim.task_id)] == ["settled"]
    assert sum(rows(core).values()) == 0


def test_a_purge_does_not_wait_for_what_others_hold(core: Core, service: Networks) -> None:
    network_id = used(core)
    service.delete(ANN, network_id)
    with ThreadPoolExecutor(1) as worker, core.database.begin() as work:
        held = select(tasks.c.id).where(tasks.c.network_id == network_id).limit(1).with_for_update()
        work.connection.execute(held).one()
        assert worker.submit(purging(core).run).result(timeout=5) == 0
        assert rows(core)["tasks"] == 1
    assert purging(core).run() == 1


def test_purges_at_once_do_not_disturb_each_other(core: Core) -> None:
    """Several batches each; every network is removed once."""
    doomed = []
    for _ in range(3):
        network_id = core.network()
        with core.database.begin() as work:
            for _ in range(purge.BATCH + 20):
                add_step(work.connection, add_task(work.connection, network_id, status="cancelled"))
        doomed.append(network_id)
    with core.database.begin() as work:
        work.connection.execute(update(networks).values(deleted_at=core.clock()))
    with ThreadPoolExecutor(4) as workers:
        removed = [future.result() for future in [workers.submit(purging(core).run) for _ in range(4)]]
    assert sum(removed) + purging(core).run() == len(doomed)
    assert sum(rows(core).values()) == 0
