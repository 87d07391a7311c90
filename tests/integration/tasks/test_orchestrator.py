"""What a step's end means for its task: once, in order, and only by the attempt that has the step."""

from datetime import timedelta
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, delete, select, text
from sqlalchemy.exc import DataError

from mesh.db.tables import agents, memories
from mesh.events import log
from mesh.events.types import Paused
from mesh.tasks import graph
from mesh.tasks.briefing import prepare
from mesh.tasks.orchestrator import MOST_FAILURES
from tests.builders import COST, add_agent, agent_reply, decision, reply_of, subtask
from tests.integration.tasks.commits import at_commit, lose_answer
from tests.integration.tasks.core import ANN, Core, until


def started(core: Core, *subtasks: Any, types: tuple[str, ...] = ("content",)) -> str:  # noqa: ANN401  # Subtask
    """A task whose coordinator has ordered `subtasks`."""
    task_id = core.submit(core.network(*types)).task_id
    core.finish(core.claim(), decision(*subtasks))
    return task_id


def remove_agent(core: Core, agent_type: str) -> None:
    with core.database.begin() as work:
        work.connection.execute(delete(agents).where(agents.c.type == agent_type))


def test_a_task_goes_from_decision_to_steps_to_result(core: Core) -> None:
    task_id = started(core, subtask("a"), subtask("b", "content", "a"))
    core.finish(core.claim("content"), agent_reply("A"))
    core.finish(core.claim("content"), agent_reply("B"))
    core.finish(core.claim(), decision())
    task = core.tasks.get(ANN, core.task(task_id).network_id, task_id)
    assert task.status == "completed"
    assert task.result == {"content": "The deliverable", "explanation": "", "confidence": 0.9}
    assert task.iterations == 2
    assert core.event_types(task_id) == [
        "started",
        *("step_completed", "plan"),
        *("step_completed", "step_completed", "step_completed"),
        *("result", "complete"),
    ]
    assert [row.state for row in core.calls(task_id)] == ["settled"] * 4
    assert task.cost_usd == 4 * COST


def test_steps_run_when_all_they_depend_on_succeeded(core: Core) -> None:
    task_id = started(core, subtask("a"), subtask("b"), subtask("c", "content", "a", "b"))
    core.finish(core.claim("content"), agent_reply())
    assert core.states(task_id)["c"] == "blocked"
    core.finish(core.claim("content"), agent_reply())
    assert core.states(task_id)["c"] == "ready"


def test_what_was_finished_is_announced_after_it_is_stored(core: Core) -> None:
    task_id = started(core, subtask("a"))
    announced = [one.sequence for told, events in core.live.published if told == task_id for one in events]
    assert announced == [row.sequence for row in core.events(task_id)][1:]  # the first: nobody could be watching


def test_an_agents_memories_are_remembered_and_announced(core: Core) -> None:
    task_id = started(core, subtask("a"))
    note = {"type": "decision", "content": "Blue it is.", "confidence": 0.7}
    core.finish(core.claim("content"), agent_reply(memories=[note]))
    with core.database.begin() as work:
        (row,) = work.connection.execute(select(memories)).all()
    assert (row.content, row.type, row.source_kind, row.task_id) == ("Blue it is.", "decision", "agent", task_id)
    (told,) = (one.data for one in core.events(task_id) if one.type == "memory")
    assert (told["memory_id"], told["type"]) == (row.id, "decision")


def test_two_last_steps_that_end_at_once_order_one_decision(core: Core, engine: Engine) -> None:
    """The second finish begins while the first has written everything and not committed."""
    task_id = started(core, subtask("a"), subtask("b"))
    first, second = core.claim("content", "worker_1"), core.claim("content", "worker_2")
    calls = [core.open_call(first), core.open_call(second)]
    other = Thread(target=core.orchestrator.finish, args=(second, reply_of(agent_reply(), calls[1])))

    def overlap(_connection: Connection) -> None:
        other.start()
        until(lambda: not other.is_alive() or waiting_for_a_row(engine))

    with at_commit(engine, 1, overlap):
        core.orchestrator.finish(first, reply_of(agent_reply(), calls[0]))
        other.join()
    decisions = [row for row in core.steps(task_id) if row.kind == "decision"]
    assert [(row.iteration, row.state) for row in decisions] == [(1, "succeeded"), (2, "ready")]
    assert core.event_types(task_id).count("step_completed") == 3


def test_a_finish_repeated_after_an_unclear_commit_does_nothing_twice(core: Core, engine: Engine) -> None:
    task_id = started(core, subtask("a"))
    claim = core.claim("content")
    reply = reply_of(agent_reply(), core.open_call(claim))
    with at_commit(engine, 1, lose_answer):
        core.orchestrator.finish(claim, reply)
    assert core.event_types(task_id).count("step_completed") == 2
    assert [row.iteration for row in core.steps(task_id) if row.kind == "decision"] == [1, 2]
    before = core.snapshot()
    core.orchestrator.finish(claim, reply)
    assert core.snapshot() == before
    assert [row.cost_usd for row in core.calls(task_id)] == [COST, COST]


def test_a_late_worker_changes_nothing_but_its_ledger_row(core: Core) -> None:
    task_id = started(core, subtask("a"))
    late = core.claim("content")
    call_id = core.open_call(late)
    core.fail(late)
    core.clock.advance(10)
    core.unpark()
    present = core.claim("content", "worker_2")
    before = core.snapshot()
    core.orchestrator.finish(late, reply_of(agent_reply("late"), call_id))
    core.fail(late)
    assert core.snapshot() == before
    (row,) = (row for row in core.calls(task_id) if row.id == call_id)
    assert (row.state, row.cost_usd, row.estimated) == ("settled", COST, False)
    core.finish(present, agent_reply("in time"))
    assert [row.output for row in core.steps(task_id) if row.key == "a"] == ["in time"]


def test_a_failed_specialist_is_tried_again_after_a_pause_that_doubles(core: Core) -> None:
    task_id = started(core, subtask("a"))
    for pause in (1, 2):
        core.fail(core.claim("content"))
        (step,) = (row for row in core.steps(task_id) if row.key == "a")
        assert (step.state, step.not_before) == ("ready", core.clock() + timedelta(seconds=pause))
        assert core.try_claim("agent.content") is None
        core.clock.advance(pause)
        core.unpark()
    assert core.claim("content").attempt == MOST_FAILURES
    assert [one.data["will_retry"] for one in core.events(task_id) if one.type == "step_failed"] == [True, True]


def test_a_provider_that_names_its_pause_is_given_it(core: Core) -> None:
    task_id = started(core, subtask("a"))
    core.fail(core.claim("content"), after_seconds=42)
    (step,) = (row for row in core.steps(task_id) if row.key == "a")
    assert step.not_before == core.clock() + timedelta(seconds=42)


def test_a_specialist_that_fails_for_good_is_reported_and_the_coordinator_goes_on(core: Core) -> None:
    task_id = started(
        core, subtask("a"), subtask("b", "content", "a"), subtask("c", "content", "b"), subtask("d", "design"),
        types=("content", "design"),
    )  # fmt: skip
    for _ in range(MOST_FAILURES):
        core.fail(core.claim("content"))
        core.clock.advance(60)
        core.unpark()
    assert core.states(task_id) == {
        "decision_1": "succeeded",
        "a": "failed",
        "b": "skipped",
        "c": "skipped",
        "d": "ready",
    }
    assert core.events(task_id)[-1].data["will_retry"] is False
    core.finish(core.claim("design"), agent_reply())
    core.finish(core.claim(), decision())
    assert core.task(task_id).status == "completed"


def test_a_decision_that_fails_for_good_fails_the_task_and_says_why(core: Core) -> None:
    task_id = core.submit(core.network()).task_id
    core.fail(core.claim(), retry=False)
    task = core.task(task_id)
    assert (task.status, task.error["code"]) == ("failed", "all_models_failed")
    assert core.event_types(task_id) == ["started", "step_failed", "error", "complete"]


def test_a_reply_for_a_task_that_is_gone_is_paid_for(core: Core) -> None:
    task_id = started(core, subtask("a"))
    claim = core.claim("content")
    call_id = core.open_call(claim)
    with core.database.begin() as work:
        work.connection.execute(text("DELETE FROM tasks"))
    core.orchestrator.finish(claim, reply_of(agent_reply(), call_id))
    assert [row.state for row in core.calls(task_id)] == ["settled", "settled"]


def test_a_specialist_that_left_before_the_plan_was_stored_has_failed(core: Core) -> None:
    task_id = core.submit(core.network("content", "design")).task_id
    claim = core.claim()
    remove_agent(core, "design")
    core.finish(claim, decision(subtask("a"), subtask("b", "design"), subtask("c", "content", "b")))
    assert core.states(task_id) == {"decision_1": "succeeded", "a": "ready", "b": "failed", "c": "skipped"}
    assert core.event_types(task_id)[-2:] == ["plan", "step_failed"]
    (failed,) = (row for row in core.steps(task_id) if row.key == "b")
    told = core.events(task_id)[-1].data
    assert (told["step_id"], told["agent"], told["will_retry"]) == (failed.id, "design", False)
    assert {"code": told["code"], "detail": told["detail"]} == failed.error
    assert failed.error["code"] == "agent_removed"
    core.finish(core.claim("content"), agent_reply())
    assert core.claim().iteration == 2


def test_another_coordinator_takes_over_from_one_that_left(core: Core) -> None:
    network_id = core.network()
    core.submit(network_id)
    claim = core.claim()
    with core.database.begin() as work:
        add_agent(work.connection, network_id, "coordinator", "second")
        work.connection.execute(delete(agents).where(agents.c.id == claim.agent_id))
        assert prepare(work.connection, claim, worker_id="worker_a", now=core.clock()).brief.agent.name == "second"


def test_a_task_whose_time_is_over_is_failed_once(core: Core) -> None:
    task_id = core.submit(core.network(timeout_seconds=60)).task_id
    core.clock.advance(59)
    core.orchestrator.expire(task_id)
    assert core.task(task_id).status == "processing"
    core.clock.advance(1)
    core.orchestrator.expire(task_id)
    task = core.task(task_id)
    assert (task.status, task.error["code"]) == ("failed", "timeout")
    before = core.snapshot()
    core.orchestrator.expire(task_id)
    assert core.snapshot() == before


def waiting_for_a_row(engine: Engine) -> bool:
    query = "SELECT true FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with engine.connect() as connection:
        return connection.execute(text(query)).first() is not None


def test_events_are_stored_only_behind_those_that_their_task_s_row_tells_of(core: Core) -> None:
    """Else what is announced would have other numbers than what is stored."""
    task_id = core.submit(core.network()).task_id

    def twice() -> None:
        with core.database.begin() as work:
            task = graph.lock(work.connection, task_id)
            assert task is not None
            for _ in range(2):
                log.append(work.connection, task, [Paused("x")], at=core.clock())

    with pytest.raises(DataError):
        twice()
    assert core.event_types(task_id) == ["started"]
