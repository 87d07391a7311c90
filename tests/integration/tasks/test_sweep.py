"""Whatever was lost on the way is found by the sweep, from the rows alone, and mended once."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select, text, update
from structlog.testing import capture_logs

from mesh.costs import ledger
from mesh.costs.ledger import Opening, Spender
from mesh.db.tables import model_calls, steps, tasks, workers
from mesh.generate.views import TIMEOUT_SECONDS
from mesh.ids import new_id
from mesh.tasks.leases import Holder, Leases
from mesh.tasks.states import TaskStatus
from mesh.tasks.sweep import CONTINUE_EVERY, GENERATION_BEGAN, MOST_LOSSES, STEP_ENDED, WORKER_ROWS_KEPT, Sweep
from mesh.testing import FakeDispatcher
from tests.builders import COST, NOW, add_ready_steps, add_step, add_task, agent_reply, decision, subtask
from tests.integration.tasks.core import ANN, WORKER, Core

DEAD = timedelta(seconds=-1)
ALIVE = timedelta(seconds=60)


def sweep_of(core: Core, lease: timedelta = timedelta(0)) -> Sweep:
    """A sweep; `lease` is how long after the database's own start nobody is declared dead."""
    return Sweep(core.database, core.orchestrator, core.dispatcher, core.wakeups, core.clock, lease=lease)


@pytest.fixture
def sweep(core: Core) -> Sweep:
    return sweep_of(core)


def worker(core: Core, *queues: str, lease: timedelta = ALIVE, worker_id: str = WORKER, slots: int = 8) -> None:
    holder = Holder(worker_id, "worker", "host", 1, queues or ("agent.content",), slots)
    Leases(core.database, core.clock, lease=lease).renew(holder, [])


def working(core: Core, *subtasks: str) -> str:
    """A task with a step of the content specialist for each of `subtasks`; its permits are forgotten."""
    task_id = core.submit(core.network("content")).task_id
    core.finish(core.claim(), decision(*map(subtask, subtasks)))
    core.dispatcher.sent.clear()
    return task_id


def test_a_dead_workers_step_goes_back_and_another_worker_gets_it(core: Core, sweep: Sweep) -> None:
    task_id = working(core, "a")
    lost = core.claim("content")
    call_id = core.open_call(lost)
    worker(core, lease=DEAD)
    sweep.run()
    assert core.states(task_id)["a"] == "ready"
    assert core.dispatcher.sent == {"agent.content": 1}
    (call,) = (row for row in core.calls(task_id) if row.id == call_id)
    assert (call.state, call.cost_usd, call.estimated) == ("cancelled", 2 * COST, True)
    again = core.claim("content", "worker_2")
    assert (again.step_id, again.attempt, again.failures) == (lost.step_id, lost.attempt + 1, 0)
    assert core.step(again.step_id).losses == 1


def test_a_worker_that_was_never_heard_of_is_dead_too(core: Core, sweep: Sweep) -> None:
    task_id = working(core, "a")
    core.claim("content")
    sweep.run()
    assert core.states(task_id)["a"] == "ready"


def test_a_live_workers_steps_stay_its_own(core: Core, sweep: Sweep) -> None:
    working(core, "a")
    claim = core.claim("content")
    core.open_call(claim)
    worker(core)
    before = core.snapshot(), core.calls(claim.task_id)
    sweep.run()
    assert (core.snapshot(), core.calls(claim.task_id)) == before


def forget_worker(core: Core) -> None:
    """The ledger as workers of the version before write it."""
    with core.database.begin() as work:
        work.connection.execute(update(model_calls).values(worker_id=None))


@pytest.mark.parametrize(("lease", "state"), [(ALIVE, "reserved"), (DEAD, "cancelled")])
def test_the_call_of_an_older_worker_lives_by_its_step(core: Core, sweep: Sweep, lease: timedelta, state: str) -> None:
    """While versions change, both kinds of workers run: theirs do not name themselves in the ledger."""
    core.submit(core.network())
    claim = core.claim()
    core.open_call(claim)
    forget_worker(core)
    worker(core, "agent.coordinator", lease=lease)
    sweep.run()
    assert [row.state for row in core.calls(claim.task_id)] == [state]


def test_a_cancelled_steps_worker_has_a_while_to_end_its_call(core: Core, sweep: Sweep) -> None:
    """It knows best what was used; but if it gives up, the reservation must not stay for good."""
    task = core.submit(core.network())
    core.open_call(core.claim())
    worker(core, "agent.coordinator")
    core.clock.advance(3600)
    core.tasks.cancel(ANN, task.network_id, task.task_id)
    sweep.run()
    assert [row.state for row in core.calls(task.task_id)] == ["reserved"]
    core.clock.advance(STEP_ENDED.total_seconds() + 1)
    sweep.run()
    assert [row.state for row in core.calls(task.task_id)] == ["cancelled"]


def test_a_generations_call_that_nobody_ended_is_ended_when_its_time_is_over(core: Core, sweep: Sweep) -> None:
    assert GENERATION_BEGAN.total_seconds() > TIMEOUT_SECONDS
    spender = Spender("ann", None, None, None, None, None, attempt=1, worker_id=WORKER)
    opening = Opening(new_id("call"), None, "gpt-4o", "openai", COST, unpriced=False, sandbox=False)
    worker(core, "mesh.generate")
    with core.database.begin() as work:
        values = {**ledger.opening_values(spender, opening), "now": core.clock()}
        work.connection.execute(text(ledger.opening("(SELECT 1) once")), values)
    states: list[str] = []
    for seconds in (TIMEOUT_SECONDS, GENERATION_BEGAN.total_seconds()):
        core.clock.advance(seconds)
        sweep.run()
        with core.database.begin() as work:
            states += work.connection.execute(select(model_calls.c.state)).scalars().all()
    assert states == ["reserved", "cancelled"]


def test_a_step_that_takes_too_many_workers_with_it_fails_and_the_task_goes_on(core: Core, sweep: Sweep) -> None:
    task_id = working(core, "a")
    for _ in range(MOST_LOSSES):
        core.claim("content")
        sweep.run()
    (step,) = (row for row in core.steps(task_id) if row.key == "a")
    assert (step.state, step.losses, step.error["code"]) == ("failed", MOST_LOSSES, "worker_lost")
    assert "step_failed" in core.event_types(task_id)
    assert core.claim().iteration == 2


def test_after_a_restart_of_the_database_every_lease_gets_a_fresh_period(core: Core) -> None:
    task_id = working(core, "a")
    claim = core.claim("content")
    core.open_call(claim)
    worker(core, lease=DEAD)
    sweep_of(core, lease=timedelta(days=1)).run()
    assert core.states(task_id)["a"] == "running"
    assert [row.state for row in core.calls(task_id)] == ["settled", "reserved"]


def test_a_sweep_that_may_not_reclaim_does_the_rest(core: Core, sweep: Sweep) -> None:
    running = working(core, "a")
    core.claim("content")
    late = core.submit(core.network(timeout_seconds=1)).task_id
    core.clock.advance(2)
    sweep.run(reclaim=False)
    assert core.states(running)["a"] == "running"
    assert core.task(late).status == TaskStatus.FAILED


def test_giving_back_is_for_one_attempt(core: Core, sweep: Sweep) -> None:
    """A sweeper that was held up must not take the step from whoever runs it by now."""
    working(core, "a")
    first = core.claim("content")
    sweep.give_back([(first.step_id, first.attempt)])
    second = core.claim("content", "worker_2")
    before = core.snapshot()
    sweep.give_back([(first.step_id, first.attempt)])
    assert core.snapshot() == before
    core.finish(second, agent_reply())


@pytest.mark.parametrize("ended_by", ["cancel", "timeout"])
def test_calls_of_a_dead_worker_are_closed_though_their_task_has_ended(core: Core, sweep: Sweep, ended_by: str) -> None:
    task_id = working(core, "a")
    claim = core.claim("content")
    call_id = core.open_call(claim)
    worker(core)
    if ended_by == "cancel":
        core.tasks.cancel(ANN, core.task(task_id).network_id, task_id)
    else:
        core.clock.advance(1_000)
        core.orchestrator.expire(task_id)
    sweep.run()
    assert {row.id: row.state for row in core.calls(task_id)}[call_id] == "reserved"
    worker(core, lease=DEAD)
    sweep.run()
    call = {row.id: row for row in core.calls(task_id)}[call_id]
    assert (call.state, call.cost_usd, call.estimated) == ("cancelled", 2 * COST, True)


def test_rows_of_dead_workers_are_removed_in_time(core: Core, sweep: Sweep) -> None:
    worker(core, worker_id="recent", lease=DEAD)
    worker(core, worker_id="old", lease=-WORKER_ROWS_KEPT - timedelta(seconds=1))
    sweep.run()
    with core.database.begin() as work:
        assert work.connection.execute(select(workers.c.id)).scalars().all() == ["recent"]


def test_a_step_that_a_worker_holds_without_running_it_is_given_back(core: Core, sweep: Sweep) -> None:
    """The answer to its claim was lost; what it does run is left alone, and so is what it has just claimed."""
    task_id = working(core, "a", "b", "c")
    lost, run = core.claim("content"), core.claim("content")
    core.clock.advance(6)
    fresh = core.claim("content")
    holder = Holder(WORKER, "worker", "host", 1, ("agent.content",), 8)
    renewal = Leases(core.database, core.clock).renew(holder, [(run.step_id, run.attempt)])
    assert renewal.orphans == [(lost.step_id, lost.attempt)]
    sweep.give_back(renewal.orphans)
    states = core.states(task_id)
    assert [states[claim.key] for claim in (lost, run, fresh)] == ["ready", "running", "running"]


@pytest.mark.parametrize("status", ["pending", "paused", "processing"])
def test_a_deadline_holds_in_every_state_and_while_nobody_works(core: Core, sweep: Sweep, status: str) -> None:
    network_id = core.network()
    task_id = core.submit(network_id, deadline=NOW + timedelta(seconds=10), auto_process=False).task_id
    if status != "pending":
        core.tasks.process(ANN, network_id, task_id)
    if status == "paused":
        with core.database.begin() as work:
            work.connection.execute(update(tasks).values(status="paused"))
    core.clock.advance(9)
    sweep.run()
    assert core.task(task_id).status == status
    core.clock.advance(1)
    sweep.run()
    assert (core.task(task_id).status, core.task(task_id).error["code"]) == ("failed", "deadline_exceeded")
    assert core.event_types(task_id)[-2:] == ["error", "complete"]


def test_time_spent_paused_does_not_end_a_task(core: Core, sweep: Sweep) -> None:
    task_id = core.submit(core.network(timeout_seconds=10)).task_id
    with core.database.begin() as work:
        work.connection.execute(update(tasks).values(status="paused"))
    core.clock.advance(100)
    sweep.run()
    assert core.task(task_id).status == "paused"


def test_steps_that_waited_are_queued_when_their_time_has_come(core: Core, sweep: Sweep) -> None:
    working(core, "a")
    core.fail(core.claim("content"))
    sweep.run()
    assert core.try_claim("agent.content") is None
    core.clock.advance(1)
    sweep.run()
    core.claim("content")


def test_steps_of_a_custom_pool_that_died_go_to_the_common_one(core: Core, sweep: Sweep) -> None:
    worker(core, "agent.legal")
    task_id = core.submit(core.network("legal")).task_id
    core.finish(core.claim(), decision(subtask("a", "legal"), subtask("b", "legal", "a")))
    sweep.run()
    assert {row.queue for row in core.steps(task_id) if row.kind == "agent"} == {"agent.legal"}
    worker(core, "agent.legal", lease=DEAD)
    sweep.run()
    assert {row.queue for row in core.steps(task_id) if row.kind == "agent"} == {"agent.custom"}
    assert core.claim("custom").key == "a"


def test_a_turn_counts_in_its_own_queue_only(core: Core, sweep: Sweep) -> None:
    """A step that comes from a queue that was far ahead does not stand behind all of the common one."""
    with core.database.begin() as work:
        task_id = add_task(work.connection, core.network(), expires_at=NOW + timedelta(seconds=60))
        add_ready_steps(work.connection, task_id, 50, queue="agent.custom")
        moved = add_step(work.connection, task_id, "bob", queue="agent.legal", state="ready", turn=9_999)
    sweep.run()
    assert moved in [core.claim("custom").step_id for _ in range(2)]


def test_a_step_of_a_dead_pool_that_waits_goes_on_waiting(core: Core, sweep: Sweep) -> None:
    with core.database.begin() as work:
        task_id = add_task(work.connection, core.network(), expires_at=NOW + timedelta(seconds=60))
        due = NOW + timedelta(seconds=5)
        add_step(work.connection, task_id, queue="agent.legal", state="ready", not_before=due)
        add_step(work.connection, task_id, queue="agent.legal", state="ready", turn=0)
    sweep.run()
    core.claim("custom")
    assert core.try_claim("agent.custom") is None
    core.clock.advance(5)
    sweep.run()
    core.claim("custom")


@pytest.mark.parametrize(
    ("ready", "busy", "in_broker", "sent"),
    [(5, 0, 0, 5), (5, 0, 2, 3), (5, 6, 0, 2), (5, 6, 1, 1), (5, 6, 2, 0), (5, 8, 0, 0), (0, 3, 0, 0), (20, 0, 0, 8)],
)
def test_permits_are_topped_up_to_what_is_ready_and_can_be_run(
    core: Core, sweep: Sweep, ready: int, busy: int, in_broker: int, sent: int
) -> None:
    """A worker has 8 slots; a permit that waits in the broker counts."""
    worker(core)
    with core.database.begin() as work:
        task_id = add_task(work.connection, core.network(), expires_at=NOW + timedelta(seconds=60))
        for _ in range(ready):
            add_step(work.connection, task_id, state="ready", turn=0)
        for _ in range(busy):
            add_step(work.connection, task_id, state="running", worker_id=WORKER, queue="agent.design")
    assert core.dispatcher.in_broker is not None
    core.dispatcher.in_broker["agent.content"] = in_broker
    sweep.run()
    assert core.dispatcher.refills["agent.content"] == sent
    assert not core.dispatcher.sent


def test_no_permits_are_sent_to_nobody_nor_to_a_broker_that_does_not_answer(core: Core, sweep: Sweep) -> None:
    working(core, "a")
    sweep.run()
    worker(core)
    core.dispatcher.in_broker = None
    sweep.run()
    assert not core.dispatcher.refills


def test_a_task_that_nobody_goes_on_with_goes_on(core: Core, sweep: Sweep) -> None:
    task_id = working(core, "a")
    with core.database.begin() as work:
        work.connection.execute(update(steps).where(steps.c.key == "a").values(state="cancelled"))
    for _ in range(CONTINUE_EVERY + 1):
        sweep.run()
    assert core.claim().iteration == 2
    assert core.task(task_id).status == "processing"


def test_a_part_that_breaks_does_not_stop_the_others(core: Core) -> None:
    class Broken(FakeDispatcher):
        def waiting(self, queue: str) -> int | None:
            raise RuntimeError(queue)

    core.dispatcher = Broken()
    task_id = working(core, "a", "b")
    worker(core)
    with core.database.begin() as work:
        stuck = add_task(work.connection, core.task(task_id).network_id, expires_at=NOW + timedelta(seconds=60))
    sweep_of(core).run()
    assert core.states(stuck) == {"decision_1": "ready"}


def test_a_task_that_cannot_be_mended_does_not_keep_those_behind_it_waiting(core: Core, sweep: Sweep) -> None:
    before, broken, behind = (working(core, "a") for _ in range(3))
    for _ in range(3):
        core.claim("content")
    with core.database.begin() as work:
        work.connection.execute(text(_BREAK.format(task_id=broken)))
    with capture_logs() as logs:
        sweep.run()
        assert [core.states(task_id)["a"] for task_id in (before, broken, behind)] == ["ready", "running", "ready"]
        core.clock.advance(1_000)
        sweep.run()
    assert {line["task_id"] for line in logs if line["event"] == "task_not_mended"} == {broken}
    assert [core.task(task_id).status for task_id in (before, broken, behind)] == ["failed", "processing", "failed"]


_BREAK = """
    CREATE FUNCTION break() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'broken'; END $$;
    CREATE TRIGGER break BEFORE UPDATE ON steps FOR EACH ROW WHEN (old.task_id = '{task_id}') EXECUTE FUNCTION break();
"""


def test_a_direct_generation_whose_worker_died_is_charged_its_reservation(core: Core, sweep: Sweep) -> None:
    """No step stands behind it: its worker's lease tells."""
    opening = Opening(new_id("call"), None, "gpt-4o", "openai", COST, unpriced=False, sandbox=False)
    for worker_id, lease in (("worker_dead", DEAD), ("worker_alive", ALIVE)):
        worker(core, "mesh.generate", lease=lease, worker_id=worker_id)
        spender = Spender("ann", None, None, None, None, None, 0, worker_id=worker_id)
        call = replace(opening, call_id=f"call_{worker_id}")
        with core.database.begin() as work:
            values = {**ledger.opening_values(spender, call), "now": core.clock()}
            work.connection.execute(text(ledger.opening("(SELECT 1) once")), values)
    sweep.run()
    with core.database.begin() as work:
        rows = work.connection.execute(select(model_calls).order_by(model_calls.c.id)).all()
    assert [(row.worker_id, row.state, row.cost_usd) for row in rows] == [
        ("worker_alive", "reserved", 0),
        ("worker_dead", "cancelled", COST),
    ]
