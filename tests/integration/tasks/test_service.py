"""What callers do with tasks: submit, read, process, cancel - each in one transaction, and only with their own."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from threading import Barrier, Thread
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from mesh.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError, UnavailableError
from mesh.security.principal import Role
from mesh.tasks.states import TaskStatus
from mesh.tasks.views import NewTask
from tests.builders import NOW, agent_reply, decision, principal, subtask
from tests.integration.tasks.commits import at_commit, break_off
from tests.integration.tasks.core import ANN, Core

COORDINATOR = "agent.coordinator"


def test_a_submission_is_stored_and_wakes_a_coordinator(core: Core) -> None:
    network_id = core.network("content", timeout_seconds=60, model_selection={"cost_sensitive": True})
    task = core.submit(network_id, priority=7, model_selection={"model": "gpt-4o"})
    assert (task.status, task.owner, task.priority) == (TaskStatus.PROCESSING, "ann", 7)
    assert task.model_selection == {"cost_sensitive": True, "model": "gpt-4o"}
    assert core.task(task.task_id).expires_at == NOW + timedelta(seconds=60)
    (step,) = core.steps(task.task_id)
    assert (step.kind, step.state, step.queue, step.owner, step.priority) == (
        "decision",
        "ready",
        COORDINATOR,
        "ann",
        7,
    )
    assert core.event_types(task.task_id) == ["started"]
    assert core.dispatcher.sent == {COORDINATOR: 1}
    assert not core.live.published  # nobody can be watching yet


def test_a_submission_that_cannot_be_stored_sends_nothing(core: Core) -> None:
    network_id = core.network()
    with at_commit(core.database.engine, 1, break_off), pytest.raises(UnavailableError):
        core.submit(network_id, budget_usd=Decimal(1))  # without a budget it is one statement, and no commit
    assert not core.dispatcher.sent
    assert not core.live.published
    assert core.snapshot() == []


def test_the_deadline_bounds_the_time_and_must_lie_ahead(core: Core) -> None:
    network_id = core.network(timeout_seconds=60)
    task = core.submit(network_id, deadline=NOW + timedelta(seconds=10))
    assert core.task(task.task_id).expires_at == NOW + timedelta(seconds=10)
    with pytest.raises(InvalidInputError) as refused:
        core.submit(network_id, deadline=NOW)
    assert refused.value.problems[0].pointer == "/deadline"


def test_an_unknown_model_is_refused_with_its_place(core: Core) -> None:
    with pytest.raises(InvalidInputError) as refused:
        core.submit(core.network(), model_selection={"model": "gpt-4oo"})
    assert refused.value.problems[0].pointer == "/model_selection/model"


def test_a_held_task_waits_for_process(core: Core) -> None:
    network_id = core.network()
    held = core.submit(network_id, auto_process=False)
    assert held.status == TaskStatus.PENDING
    assert core.try_claim(COORDINATOR) is None
    assert not core.dispatcher.sent
    core.clock.advance(100)
    started = core.tasks.process(ANN, network_id, held.task_id)
    assert (started.status, started.started_at) == (TaskStatus.PROCESSING, core.clock())
    core.claim()


def test_processing_what_runs_or_is_completed_changes_nothing(core: Core) -> None:
    network_id = core.network()
    task_id = core.submit(network_id).task_id
    for status in (TaskStatus.PROCESSING, TaskStatus.COMPLETED):
        before = core.snapshot()
        assert core.tasks.process(ANN, network_id, task_id).status == status
        assert core.snapshot() == before
        if status == TaskStatus.PROCESSING:
            core.finish(core.claim(), decision())


def test_processing_twice_at_once_starts_once(core: Core) -> None:
    network_id = core.network()
    task_id = core.submit(network_id, auto_process=False).task_id
    together = Barrier(2)

    def process() -> None:
        together.wait()
        core.tasks.process(ANN, network_id, task_id)

    threads = [Thread(target=process) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert core.event_types(task_id) == ["started"]
    assert len(core.steps(task_id)) == 1


def test_resuming_repeats_no_step_that_succeeded(core: Core) -> None:
    network_id = core.network("content", "design", timeout_seconds=60)
    task_id = core.submit(network_id).task_id
    core.finish(core.claim(), decision(subtask("copy"), subtask("logo", "design"), subtask("page", "design", "logo")))
    core.finish(core.claim("content"), agent_reply())
    late = core.claim("design")
    core.tasks.cancel(ANN, network_id, task_id)
    before = {row.key: row for row in core.steps(task_id)}

    core.clock.advance(1000)
    resumed = core.tasks.process(ANN, network_id, task_id)

    assert (resumed.status, resumed.error) == (TaskStatus.PROCESSING, None)
    assert core.task(task_id).expires_at == core.clock() + timedelta(seconds=60)
    assert core.events(task_id)[-1].data["run"] == 2
    assert core.states(task_id) == {
        "decision_1": "succeeded",
        "copy": "succeeded",
        "logo": "ready",
        "page": "blocked",
    }
    after = {row.key: row for row in core.steps(task_id)}
    assert after["copy"] == before["copy"]
    assert after["decision_1"] == before["decision_1"]
    again = core.claim("design")
    assert (again.key, again.attempt) == ("logo", late.attempt + 1)


def test_resuming_a_failed_task_tries_the_failed_step_again(core: Core) -> None:
    network_id = core.network()
    task_id = core.submit(network_id).task_id
    core.fail(core.claim(), retry=False)
    assert core.tasks.get(ANN, network_id, task_id).status == TaskStatus.FAILED
    core.tasks.process(ANN, network_id, task_id)
    core.finish(core.claim(), decision())
    assert core.tasks.get(ANN, network_id, task_id).status == TaskStatus.COMPLETED


def test_a_task_past_its_deadline_cannot_be_resumed(core: Core) -> None:
    network_id = core.network()
    task_id = core.submit(network_id, deadline=NOW + timedelta(seconds=10)).task_id
    core.tasks.cancel(ANN, network_id, task_id)
    core.clock.advance(10)
    with pytest.raises(ConflictError):
        core.tasks.process(ANN, network_id, task_id)


def test_cancelling_stops_everything_at_once(core: Core) -> None:
    network_id = core.network("content")
    task_id = core.submit(network_id).task_id
    core.finish(core.claim(), decision(subtask("a"), subtask("b"), subtask("c", "content", "a")))
    running = core.claim("content")
    cancelled = core.tasks.cancel(ANN, network_id, task_id)
    assert (cancelled.status, cancelled.finished_at) == (TaskStatus.CANCELLED, core.clock())
    assert core.states(task_id) == {"decision_1": "succeeded", **dict.fromkeys("abc", "cancelled")}
    assert core.event_types(task_id)[-1] == "complete"
    assert core.try_claim("agent.content") is None
    core.finish(running, agent_reply())
    assert core.states(task_id)["a"] == "cancelled"
    assert core.try_claim(COORDINATOR) is None


def test_cancelling_again_changes_nothing_and_what_ended_otherwise_is_a_conflict(core: Core) -> None:
    network_id = core.network()
    task_id = core.submit(network_id).task_id
    core.tasks.cancel(ANN, network_id, task_id)
    before = core.snapshot()
    assert core.tasks.cancel(ANN, network_id, task_id).status == TaskStatus.CANCELLED
    assert core.snapshot() == before
    completed = core.submit(network_id).task_id
    core.finish(core.claim(), decision())
    with pytest.raises(ConflictError):
        core.tasks.cancel(ANN, network_id, completed)


def test_another_users_task_is_not_found(core: Core) -> None:
    network_id = core.network()
    task_id = core.submit(network_id).task_id
    bob = principal("bob")
    before = core.snapshot()
    for call in (core.tasks.get, core.tasks.process, core.tasks.cancel, core.tasks.steps):
        with pytest.raises(NotFoundError):
            call(bob, network_id, task_id)
    with pytest.raises(NotFoundError):
        core.tasks.find(bob, task_id)
    with pytest.raises(NotFoundError):
        core.tasks.list(bob, network_id, limit=10)
    with pytest.raises(NotFoundError):
        core.tasks.submit(bob, network_id, NewTask("Do it."))
    assert core.snapshot() == before
    assert core.tasks.get(principal("root", Role.ADMIN), network_id, task_id).task_id == task_id


def test_a_task_is_found_in_its_own_network_only(core: Core) -> None:
    task_id = core.submit(core.network()).task_id
    with pytest.raises(NotFoundError):
        core.tasks.get(ANN, core.network(), task_id)


def test_a_service_submits_for_a_user_in_networks_granted_to_it(core: Core) -> None:
    granted, other = core.network(), core.network()
    service = principal("shop", Role.SERVICE, granted)
    task = core.submit(granted, service, on_behalf_of="carl")
    assert task.owner == "carl"
    assert core.claim().owner == "carl"
    with pytest.raises(NotFoundError):
        core.submit(other, service, on_behalf_of="carl")
    with pytest.raises(ForbiddenError):
        core.submit(granted, ANN, on_behalf_of="carl")


def test_a_task_shows_its_progress_and_its_cost(core: Core) -> None:
    network_id = core.network("content")
    task_id = core.submit(network_id).task_id
    core.finish(core.claim(), decision(subtask("a"), subtask("b")))
    core.finish(core.claim("content"), agent_reply())
    task = core.tasks.get(ANN, network_id, task_id)
    assert (task.progress.steps_total, task.progress.steps_done) == (3, 2)
    assert (task.usage.calls, task.usage.prompt_tokens, task.usage.completion_tokens) == (2, 200, 20)
    assert task.cost_usd == sum(row.cost_usd for row in core.calls(task_id))
    assert [step.cost_usd for step in core.tasks.steps(ANN, network_id, task_id)][2] == 0


def test_tasks_are_listed_newest_first_by_status(core: Core) -> None:
    network_id = core.network()
    first, second, third = (core.submit(network_id).task_id for _ in range(3))
    core.tasks.cancel(ANN, network_id, second)
    assert [task.task_id for task in core.tasks.list(ANN, network_id, limit=2)] == [third, second]
    assert [task.task_id for task in core.tasks.list(ANN, network_id, limit=2, before=second)] == [first]
    running = core.tasks.list(ANN, network_id, limit=9, status="processing")
    assert [task.task_id for task in running] == [third, first]


def test_tasks_are_listed_by_when_they_were_made(core: Core) -> None:
    core.clock.advance((datetime.now(UTC) - core.clock()).total_seconds() - 1)
    network_id = core.network()
    first = core.submit(network_id)
    core.clock.advance(1)
    second = core.submit(network_id)

    def listed(**filters: Any) -> list[str]:  # noqa: ANN401  # any of them
        return [task.task_id for task in core.tasks.list(ANN, network_id, limit=9, **filters)]

    assert listed(created_from=second.created_at) == [second.task_id]
    assert listed(created_to=second.created_at) == [first.task_id]
    assert listed(created_from=first.created_at, created_to=second.created_at) == [first.task_id]
    assert listed(created_from=second.created_at, status="processing") == [second.task_id]


@pytest.mark.parametrize("resumes", [False, True])
def test_a_network_cannot_be_deleted_under_what_starts_in_it(core: Core, engine: Engine, *, resumes: bool) -> None:
    """Else the task would be answered and run, in a network that is gone for everybody."""
    network_id = core.network("content")
    held = core.submit(network_id, auto_process=False)
    seen: list[str] = []

    def delete(_connection: Connection) -> None:
        with engine.connect() as other:
            other.execute(text("SET lock_timeout = '50ms'"))
            try:
                other.execute(text("UPDATE networks SET deleted_at = now() WHERE id = :id"), {"id": network_id})
            except OperationalError as error:
                seen.append(type(error.orig).__name__)

    with at_commit(engine, 1, delete):
        if resumes:
            core.tasks.process(ANN, network_id, held.task_id)
        else:
            core.submit(network_id, budget_usd=Decimal(1))
    assert seen == ["LockNotAvailable"]
