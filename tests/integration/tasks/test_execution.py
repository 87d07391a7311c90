"""What a slot does with a permit: the whole way of a task, with scripted models and without a broker."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread

import pytest
from sqlalchemy import delete, event

from mesh.agents.runner import Runner
from mesh.agents.schemas import Decision, Reply
from mesh.db.tables import agents
from mesh.errors import ModelCallError, UnavailableError
from mesh.tasks.claims import claim
from mesh.tasks.execution import Execution
from mesh.testing import FakeModels
from tests.builders import agent_reply, decision, gateway, subtask
from tests.integration.tasks.commits import Action, at_commit, break_off, lose_answer
from tests.integration.tasks.core import ANN, WORKER, Core, until

COORDINATOR = "agent.coordinator"
DOWN = ModelCallError("provider_error", "503", status=503)


def execution_of(core: Core, models: FakeModels, *queues: str, providers: tuple[str, ...] = ("openai",)) -> Execution:
    """A worker that serves `queues`; its providers have one model each."""
    return Execution(
        database=core.database,
        runner=Runner(gateway(models, *providers, monotonic=lambda: core.clock().timestamp())),
        orchestrator=core.orchestrator,
        dispatcher=core.dispatcher,
        wakeups=core.wakeups,
        clock=core.clock,
        worker_id=WORKER,
        queues=queues or (COORDINATOR, "agent.content"),
        sandbox=False,
    )


def texts(*values: Decision | Reply) -> list[str]:
    return [value.model_dump_json() for value in values]


def submitted(core: Core, *types: str, priority: int = 1) -> str:
    """A task; its permit has been taken."""
    task_id = core.submit(core.network(*types), priority=priority).task_id
    core.dispatcher.sent.clear()
    return task_id


def test_one_permit_carries_a_task_to_its_end(core: Core) -> None:
    """The slot goes on with what its step made ready: the critical path does not pass through the broker."""
    task_id = submitted(core, "content")
    models = FakeModels(texts(decision(subtask("a")), agent_reply("A"), decision()))
    execution_of(core, models).serve(COORDINATOR, refill=False)
    assert core.task(task_id).status == "completed"
    assert not core.dispatcher.sent
    assert core.event_types(task_id) == [
        "started",
        *("step_started", "step_completed", "plan"),
        *("step_started", "step_completed"),
        *("step_started", "step_completed", "result", "complete"),
    ]
    assert "A" in json.dumps([message["content"] for message in models.calls[-1].messages])
    assert [row.state for row in core.calls(task_id)] == ["settled"] * 3


def test_a_fan_out_wakes_the_others(core: Core) -> None:
    submitted(core, "content", "design")
    plan = decision(subtask("a"), subtask("b"), subtask("c", "design"))
    execution_of(core, FakeModels(texts(plan, agent_reply()))).serve(COORDINATOR, refill=False)
    assert core.dispatcher.sent == {"agent.content": 1, "agent.design": 1}


def test_a_fan_out_goes_to_the_slots_beside_and_to_the_broker_for_the_rest(core: Core) -> None:
    submitted(core, "content")
    plan = decision(subtask("a"), subtask("b"), subtask("c"))
    models = FakeModels(texts(plan, *(agent_reply() for _ in "abc")))
    execution = execution_of(core, models)
    handed = _share(execution, free=1)
    execution.serve(COORDINATOR, refill=False)
    assert len(handed) == 1
    assert core.dispatcher.sent == {"agent.content": 1}
    handed[0]()
    assert len(models.calls) == 3


def _share(execution: Execution, *, free: int) -> list[Callable[[], None]]:
    """Let it hand on to `free` slots; answers what they were given, and do not run by themselves."""
    given: list[Callable[[], None]] = []

    def take(job: Callable[[], None]) -> bool:
        if len(given) == free:
            return False
        given.append(job)
        return True

    execution.share(take)
    return given


def test_a_queue_that_this_worker_does_not_serve_gets_permits(core: Core) -> None:
    submitted(core, "design")
    models = FakeModels(texts(decision(subtask("a", "design"))))
    execution = execution_of(core, models)
    handed = _share(execution, free=9)
    execution.serve(COORDINATOR, refill=False)
    assert not handed
    assert core.dispatcher.sent == {"agent.design": 1}


@pytest.mark.parametrize(("tasks", "passed_on"), [(1, 0), (2, 1), (3, 1)])
def test_a_refill_permit_is_passed_on_while_the_queue_has_more(core: Core, tasks: int, passed_on: int) -> None:
    for _ in range(tasks):
        submitted(core)
    execution_of(core, FakeModels(texts(decision()))).serve(COORDINATOR, refill=True)
    assert core.dispatcher.refills[COORDINATOR] == passed_on


def test_a_step_runs_although_nobody_can_say_whether_its_queue_has_more(core: Core) -> None:
    task_id = submitted(core)

    def break_look_up(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "PREPARE" in statement and statement.endswith("ORDER BY turn LIMIT 1"):
            raise UnavailableError("The database does not answer.")

    event.listen(core.database.engine, "before_cursor_execute", break_look_up)
    execution_of(core, FakeModels(texts(decision()))).serve(COORDINATOR, refill=True)
    assert core.task(task_id).status == "completed"


def test_a_permit_too_many_finds_nothing(core: Core) -> None:
    execution_of(core, FakeModels([])).serve(COORDINATOR, refill=True)
    assert not core.dispatcher.refills


def test_a_worker_that_leaves_begins_nothing_more_and_tells_others(core: Core) -> None:
    submitted(core, "content")
    execution = execution_of(core, FakeModels(texts(decision(subtask("a"), subtask("b")))))
    handed = _share(execution, free=9)
    with at_commit(core.database.engine, 1, lambda _: execution.drain()):
        execution.serve(COORDINATOR, refill=False)
    assert not handed
    assert core.dispatcher.sent == {"agent.content": 2}


@contextmanager
def overtaken(core: Core, *, then: Callable[[], object]) -> Iterator[str]:
    """A task whose step another worker's claim overtakes, and holds until it commits.

    It does when a claim of this worker gives its connection back, to pause; `then` follows.
    """
    task_id = submitted(core)
    submitted(core, priority=10)
    with core.database.engine.connect() as other:
        assert claim(other, queue=COORDINATOR, worker_id="worker_2", now=core.clock())

        def pause(*_: object) -> None:
            other.commit()
            then()

        event.listen(core.database.engine, "checkin", pause, once=True)
        yield task_id


def test_a_step_that_is_being_overtaken_is_not_missed(core: Core) -> None:
    """The claim pauses, without a connection, and takes the step once the other has committed, at that time."""
    with overtaken(core, then=lambda: core.clock.advance(1)) as task_id:
        execution_of(core, FakeModels(texts(decision()))).serve(COORDINATOR, refill=False)
    assert core.task(task_id).status == "completed"
    assert core.steps(task_id)[0].started_at == core.clock()


def test_a_worker_that_leaves_while_its_claim_pauses_begins_nothing_and_tells_others(core: Core) -> None:
    execution = execution_of(core, FakeModels([]))
    with overtaken(core, then=execution.drain) as task_id:
        execution.serve(COORDINATOR, refill=False)
    assert core.states(task_id) == {"decision_1": "ready"}
    assert core.dispatcher.sent == {COORDINATOR: 1}


def test_a_plan_that_cannot_be_carried_out_is_asked_for_again(core: Core) -> None:
    task_id = submitted(core, "content")
    circular = decision(subtask("a", "content", "b"), subtask("b", "content", "a"))
    models = FakeModels(texts(circular, decision(subtask("a")), agent_reply(), decision()))
    execution_of(core, models).serve(COORDINATOR, refill=False)
    assert core.task(task_id).status == "completed"
    assert [row.state for row in core.calls(task_id)] == ["failed", "settled", "settled", "settled"]


def test_a_model_that_is_down_is_followed_by_the_next(core: Core) -> None:
    task_id = submitted(core)
    models = FakeModels([DOWN, *texts(decision())])
    execution_of(core, models, providers=("anthropic", "openai")).serve(COORDINATOR, refill=False)
    assert core.task(task_id).status == "completed"
    assert "fallback" in core.event_types(task_id)
    first, second = core.calls(task_id)
    assert (first.state, first.cost_usd, second.state) == ("failed", 0, "settled")


def test_a_step_whose_models_are_all_down_waits_and_is_tried_again(core: Core) -> None:
    task_id = submitted(core)
    asked = ModelCallError("rate_limited", "429", status=429, retry_after_seconds=30)
    execution = execution_of(core, FakeModels([asked, *texts(decision())]))
    execution.serve(COORDINATOR, refill=False)
    assert core.states(task_id) == {"decision_1": "ready"}
    core.clock.advance(29)
    core.unpark()
    execution.serve(COORDINATOR, refill=False)
    assert core.states(task_id) == {"decision_1": "ready"}
    core.clock.advance(1)
    core.unpark()
    execution.serve(COORDINATOR, refill=False)
    assert core.task(task_id).status == "completed"


def test_one_models_long_rest_does_not_hold_up_a_step_that_others_may_take(core: Core) -> None:
    submitted(core)
    used_up = ModelCallError("rate_limited", "429", status=429, retry_after_seconds=3600)
    execution = execution_of(core, FakeModels([used_up, DOWN]), providers=("anthropic", "openai"))
    execution.serve(COORDINATOR, refill=False)
    core.clock.advance(60)
    core.unpark()
    assert core.claim().attempt == 2


def test_a_refusal_for_good_is_not_tried_again(core: Core) -> None:
    task_id = submitted(core)
    refused = ModelCallError("not_authorized", "401", status=401)
    execution_of(core, FakeModels([refused])).serve(COORDINATOR, refill=False)
    assert core.task(task_id).status == "failed"


def test_a_fault_of_ours_does_not_leave_the_step_running(core: Core) -> None:
    task_id = submitted(core)
    execution_of(core, FakeModels([])).serve(COORDINATOR, refill=False)  # a model without a reply: StopIteration
    (step,) = core.steps(task_id)
    assert (step.state, step.failures, step.error["code"]) == ("ready", 1, "internal_error")


def test_a_step_of_an_agent_that_left_fails_and_the_coordinator_is_told(core: Core) -> None:
    task_id = submitted(core, "content")
    core.finish(core.claim(), decision(subtask("a")))
    with core.database.begin() as work:
        work.connection.execute(delete(agents).where(agents.c.type == "content"))
    models = FakeModels(texts(decision()))
    execution_of(core, models).serve("agent.content", refill=False)
    assert core.states(task_id)["a"] == "failed"
    assert core.task(task_id).status == "completed"
    assert "agent_removed" in json.dumps([message["content"] for message in models.calls[0].messages])


def test_no_call_is_made_for_a_task_that_was_cancelled_after_the_claim(core: Core) -> None:
    task_id = submitted(core)
    network_id = core.task(task_id).network_id
    models = FakeModels([])
    execution = execution_of(core, models)
    with at_commit(core.database.engine, 2, lambda _: core.tasks.cancel(ANN, network_id, task_id)):
        execution.serve(COORDINATOR, refill=False)
    assert core.task(task_id).status == "cancelled"
    assert models.calls == []
    assert core.calls(task_id) == []


def test_a_call_under_way_is_stopped_and_charged(core: Core) -> None:
    task_id = submitted(core)
    models = FakeModels([None])
    execution = execution_of(core, models)
    slot = Thread(target=execution.serve, args=(COORDINATOR,), kwargs={"refill": False})
    slot.start()
    until(lambda: bool(models.calls))
    ((step_id, attempt),) = execution.in_flight.present()
    core.tasks.cancel(ANN, core.task(task_id).network_id, task_id)
    execution.in_flight.stop(step_id, attempt)
    slot.join(10)
    assert not slot.is_alive()
    assert execution.in_flight.present() == []
    (call,) = core.calls(task_id)
    assert (call.state, call.estimated, call.cost_usd) == ("cancelled", True, call.reserved_usd)
    assert core.event_types(task_id)[-1] == "complete"


def test_an_unclear_commit_before_a_call_does_not_announce_it_twice(core: Core) -> None:
    """The third commit, after those of claim and briefing, opens the call."""
    task_id = submitted(core)
    with at_commit(core.database.engine, 3, lose_answer):
        execution_of(core, FakeModels(texts(decision()))).serve(COORDINATOR, refill=False)
    assert core.event_types(task_id) == ["started", "step_started", "step_completed", "result", "complete"]


@pytest.mark.parametrize("interference", [lose_answer, break_off])
def test_a_reply_that_was_paid_for_is_stored_when_the_database_comes_back(core: Core, interference: Action) -> None:
    task_id = submitted(core)
    models = FakeModels(texts(decision()))
    with at_commit(core.database.engine, 4, interference):
        execution_of(core, models).serve(COORDINATOR, refill=False)
    assert core.task(task_id).status == "completed"
    assert len(models.calls) == 1
    assert core.event_types(task_id) == ["started", "step_started", "step_completed", "result", "complete"]
