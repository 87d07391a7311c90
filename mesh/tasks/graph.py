"""Changes to a task's graph, within the caller's transaction: resume, decide next, advance a round, end.

service, orchestrator and sweep -> here.  Every function is given the task's row *locked* (`lock`), which is what puts
all changes to one task in an order; steps are touched after it, never before.  They answer what happened, as events to
store and queues to wake; `publish` stores the events.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple, Self

from sqlalchemy import Connection, Row, func, select, text, update

from mesh.db.prepared import Prepared
from mesh.db.tables import steps, tasks, workers
from mesh.db.unit_of_work import UnitOfWork
from mesh.dispatch.queues import COORDINATOR, CUSTOM, OWN_QUEUE_TYPES, for_step
from mesh.errors import AgentRemovedError
from mesh.events import log, types
from mesh.ids import new_id
from mesh.tasks.claims import insert_steps, make_ready
from mesh.tasks.plan import Advance, PlannedStep, RoundStep, advance
from mesh.tasks.states import OPEN_STEPS, REOPENED_STEPS, StepKind, StepState, TaskStatus, check_task_move
from mesh.tasks.wakeups import Wakeups


@dataclass
class Changes:
    """What a transaction did to one task: events in their order, and a queue for each step that became ready."""

    events: list[types.Event] = field(default_factory=list)
    queues: list[str] = field(default_factory=list)


class Owner(NamedTuple):
    """What steps have of their task."""

    id: str
    owner: str
    priority: int


class Member(NamedTuple):
    """What steps have of their agent."""

    id: str
    name: str
    type: str


_LOCK = text("SELECT * FROM tasks WHERE id = :id FOR NO KEY UPDATE")


def lock(connection: Connection, task_id: str) -> Row[Any] | None:
    """The task's row, locked until the transaction ends; None when it is gone."""
    return connection.execute(_LOCK, {"id": task_id}).first()


def publish(work: UnitOfWork, wakeups: Wakeups, task: Row[Any], changes: Changes, *, now: datetime) -> None:
    """Store the events of `changes`, and send them when the transaction has committed.  Permits are the caller's.

    Once a transaction: `task` is the row as it was locked, with the number of its last event.
    """
    stored = log.append(work.connection, task, changes.events, at=now)
    wakeups.events(work, task.id, stored)


def expiry(started_at: datetime, timeout_seconds: int, deadline: datetime | None) -> datetime:
    """When a run's time is over: the earlier of its time-out and the task's deadline."""
    timeout = started_at + timedelta(seconds=timeout_seconds)
    return min(timeout, deadline) if deadline else timeout


def resume(connection: Connection, task: Row[Any], *, timeout_seconds: int, now: datetime) -> Changes:
    """Start a held task, or go on with one that ended or was paused, from its last step that succeeded.

    Raises:
        ConflictError: its state does not allow that.
    """
    check_task_move(TaskStatus(task.status), TaskStatus.PROCESSING)
    connection.execute(
        update(tasks)
        .where(tasks.c.id == task.id)
        .values(
            status=TaskStatus.PROCESSING,
            run=task.run + 1,
            started_at=now,
            finished_at=None,
            expires_at=expiry(now, timeout_seconds, task.deadline),
            error=None,
            needs_usd=None,
        )
    )
    _reopen(connection, task)
    more = continue_run(connection, task, look_around(connection, task), now=now)
    return Changes([types.Started(TaskStatus.PROCESSING, task.run + 1), *more.events], more.queues)


def pause(
    connection: Connection, task: Row[Any], step_id: str, attempt: int, *, reason: str, needs_usd: Decimal
) -> Changes:
    """Stop a task whose step needs more than its budgets have left: nothing is begun until it is resumed.

    What runs beside it goes on, and is kept.  If the step is not this attempt's any more, nothing changes.
    """
    mine = (steps.c.id == step_id) & (steps.c.attempt == attempt) & (steps.c.state == StepState.RUNNING)
    blocked = {"state": StepState.BLOCKED, "turn": None, "not_before": None, "worker_id": None}
    if not connection.execute(update(steps).where(mine).values(blocked)).rowcount:
        return Changes()
    connection.execute(
        update(steps).where(steps.c.task_id == task.id, steps.c.state == StepState.READY).values(blocked)
    )
    connection.execute(
        update(tasks)
        .where(tasks.c.id == task.id)
        .values(status=TaskStatus.PAUSED, needs_usd=func.greatest(needs_usd, tasks.c.needs_usd))
    )
    return Changes([types.Paused(reason)] if task.status == TaskStatus.PROCESSING else [])


def _reopen(connection: Connection, task: Row[Any]) -> None:
    """Steps of the present iteration that came to nothing may be tried again; those that succeeded stay."""
    connection.execute(
        update(steps)
        .where(
            steps.c.task_id == task.id,
            steps.c.iteration == task.iterations,
            steps.c.state.in_(REOPENED_STEPS),
        )
        .values(state=StepState.BLOCKED, failures=0, losses=0, error=None, finished_at=None, worker_id=None)
    )


def surroundings(task: str, *, state: str = "steps.state") -> str:
    """SQL for what the changes below must know beside the row `task`, as the columns of `Surroundings`.

    `state` is SQL for a step's state.  By ix_steps_task_id_iteration and uq_agents_network_id_name.
    """
    return f"""
        (SELECT jsonb_agg(jsonb_build_object(
             'id', id, 'key', kind || ':' || key, 'state', {state}, 'depends_on', depends_on))
         FROM steps WHERE task_id = {task}.id AND iteration = {task}.iterations) AS round,
        (SELECT jsonb_agg(jsonb_build_object('id', id, 'name', name, 'type', type) ORDER BY id)
         FROM agents WHERE network_id = {task}.network_id) AS members"""  # noqa: S608  # built from constants of ours


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The steps of a task's present round, and the members of its network."""

    round: Sequence[RoundStep]
    members: Sequence[Member]

    @classmethod
    def of(cls, row: Row[Any]) -> Self:
        """From the columns of `surroundings`."""
        # The decision stands beside the steps that it ordered; prefixes keep its key from meeting one of theirs.
        steps = [
            RoundStep(
                step["id"], step["key"], StepState(step["state"]), tuple(f"agent:{k}" for k in step["depends_on"])
            )
            for step in row.round or ()
        ]
        return cls(steps, [Member(**member) for member in row.members])


_AROUND = Prepared(f"SELECT {surroundings('tasks')} FROM tasks WHERE id = :id")  # noqa: S608  # as above


def look_around(connection: Connection, task: Row[Any]) -> Surroundings:
    """The surroundings of `task` as they are now."""
    return Surroundings.of(_AROUND.execute(connection, {"id": task.id}).one())


def continue_run(connection: Connection, task: Row[Any], around: Surroundings, *, now: datetime) -> Changes:
    """Make ready or skip what the present round allows; when the round has ended, order the next decision."""
    step = advance(around.round)
    if step.done:
        _NEXT_ITERATION.send(connection, {"id": task.id})
        return Changes(queues=order_decision(connection, task, around.members, task.iterations + 1, now=now))
    return Changes(queues=_advance_round(connection, step, now=now))


def _advance_round(connection: Connection, step: Advance, *, now: datetime) -> list[str]:
    if step.skipped:
        connection.execute(
            update(steps).where(steps.c.id.in_(step.skipped)).values(state=StepState.SKIPPED, finished_at=now)
        )
    return make_ready(connection, step.ready, from_states=[StepState.BLOCKED])


_NEXT_ITERATION = Prepared("UPDATE tasks SET iterations = iterations + 1 WHERE id = :id")


def order_decision(
    connection: Connection, task: Row[Any], members: Sequence[Member], iteration: int, *, now: datetime
) -> list[str]:
    """Store the coordinator's decision number `iteration` as a ready step; answers its queue."""
    coordinator = next(member for member in members if member.type == COORDINATOR)
    return insert_steps(connection, [decision_row(task, coordinator, iteration)], now=now)


def decision_row(task: Row[Any] | Owner, coordinator: Member, iteration: int) -> dict[str, Any]:
    """The coordinator's decision number `iteration`, to be stored as a ready step."""
    planned = PlannedStep(f"decision_{iteration}", coordinator.name, "Decide what is to be done next.", ())
    return _row(task, planned, coordinator, StepKind.DECISION, iteration, frozenset())


def add_steps(
    connection: Connection, task: Row[Any], members: Sequence[Member], planned: Sequence[PlannedStep], *, now: datetime
) -> tuple[list[dict[str, Any]], Changes]:
    """Store a decision's steps in the present iteration; answers their rows, and what follows at once.

    A step whose agent has left the network since it was planned has failed before it began.
    """
    named = {member.name: member for member in members}
    live = _live_queues(connection, (named[step.agent].type for step in planned if step.agent in named))
    rows = [_row(task, step, named.get(step.agent), StepKind.AGENT, task.iterations, live) for step in planned]
    queues = insert_steps(connection, rows, now=now)
    failed: list[types.Event] = [
        types.StepFailed(row["id"], row["agent_name"], row["agent_id"], **row["error"], will_retry=False)
        for row in rows
        if row["state"] == StepState.FAILED
    ]
    if not failed:
        return rows, Changes(queues=queues)
    more = continue_run(connection, task, look_around(connection, task), now=now)
    return rows, Changes([*failed, *more.events], queues + more.queues)


def _row(
    task: Row[Any] | Owner,
    step: PlannedStep,
    agent: Member | None,
    kind: StepKind,
    iteration: int,
    live_queues: frozenset[str],
) -> dict[str, Any]:
    """A new step; one without an agent has failed."""
    row: dict[str, Any] = {
        "id": new_id("step"),
        "task_id": task.id,
        "owner": task.owner,
        "kind": kind,
        "iteration": iteration,
        "key": step.key,
        "agent_name": step.agent,
        "description": step.description,
        "depends_on": list(step.depends_on),
        "priority": task.priority,
    }
    if agent is None:
        error = {"code": AgentRemovedError.code, "detail": "The agent has left the network."}
        return row | {"agent_id": "", "agent_type": "", "queue": CUSTOM, "state": StepState.FAILED, "error": error}
    queue = for_step(agent.type, live_queues)
    return row | {"agent_id": agent.id, "agent_type": agent.type, "queue": queue, "state": step.state, "error": None}


def _live_queues(connection: Connection, agent_types: Iterable[str]) -> frozenset[str]:
    """Queues that some live pool serves; looked up only when a custom type makes it matter."""
    if all(agent_type in OWN_QUEUE_TYPES for agent_type in agent_types):
        return frozenset()
    served = connection.execute(select(workers.c.queues).where(workers.c.lease_until > func.now())).scalars()
    return frozenset(queue for queues in served for queue in queues)


# ix_steps_task_id_iteration
_END = Prepared(
    """
    WITH stopped AS (
        UPDATE steps SET state = 'cancelled', finished_at = :now, turn = NULL
        WHERE task_id = :id AND state = ANY(:open_states)
    )
    UPDATE tasks SET status = :status, finished_at = :now, result = CAST(:result AS jsonb),
        error = CAST(:error AS jsonb)
    WHERE id = :id
    """,
    now="timestamptz",
    open_states="text[]",
)


def end(
    connection: Connection,
    task: Row[Any],
    status: TaskStatus,
    *,
    now: datetime,
    result: dict[str, Any] | None = None,
    error: dict[str, str] | None = None,
) -> Changes:
    """End the task: its open steps are cancelled, and the last events say why."""
    check_task_move(TaskStatus(task.status), status)
    values = {"id": task.id, "status": status, "result": _json(result), "error": _json(error), "now": now}
    _END.send(connection, {**values, "open_states": [str(state) for state in OPEN_STEPS]})
    changes = Changes()
    if result is not None:
        changes.events.append(types.Result(result))
    if error is not None:
        changes.events.append(types.Failed(**error))
    changes.events.append(types.Complete(status))
    return changes


def _json(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value)
