"""Changes to a task's graph, within the caller's transaction: begin a run, decide next, advance a round, end.

service, orchestrator and sweep -> here.  Every function is given the task's row *locked* (`lock`), which is what puts
all changes to one task in an order; steps are touched after it, never before.  They answer what happened, as events to
store and queues to wake; `apply` writes the events.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from mesh.db.tables import agents, networks, steps, tasks, workers
from mesh.db.unit_of_work import UnitOfWork
from mesh.dispatch.queues import COORDINATOR, CUSTOM, OWN_QUEUE_TYPES, for_step
from mesh.events import log, types
from mesh.ids import new_id
from mesh.tasks.claims import make_ready
from mesh.tasks.plan import Advance, PlannedStep, RoundStep, advance
from mesh.tasks.states import OPEN_STEPS, StepKind, StepState, TaskStatus, check_task_move
from mesh.tasks.wakeups import Wakeups


@dataclass
class Changes:
    """What a transaction did to one task: events in their order, and a queue for each step that became ready."""

    events: list[types.Event] = field(default_factory=list)
    queues: list[str] = field(default_factory=list)


def lock(connection: Connection, task_id: str) -> Row[Any] | None:
    """The task's row, locked until the transaction ends; None when it is gone."""
    query = select(tasks).where(tasks.c.id == task_id).with_for_update(key_share=True)
    return connection.execute(query).first()


def publish(work: UnitOfWork, wakeups: Wakeups, task: Row[Any], changes: Changes, *, now: datetime) -> None:
    """Store the events of `changes`, and send them when the transaction has committed.  Permits are the caller's."""
    stored = log.append(work.connection, task.id, task.network_id, changes.events, at=now)
    wakeups.events(work, task.id, stored)


def begin_run(connection: Connection, task: Row[Any], *, now: datetime) -> Changes:
    """Start a held task, or resume one that ended or was paused, from its last step that succeeded.

    Raises:
        ConflictError: its state does not allow that.
    """
    check_task_move(TaskStatus(task.status), TaskStatus.PROCESSING)
    timeout_seconds = connection.execute(
        select(networks.c.timeout_seconds).where(networks.c.id == task.network_id)
    ).scalar_one()
    expires_at = now + timedelta(seconds=timeout_seconds)
    connection.execute(
        update(tasks)
        .where(tasks.c.id == task.id)
        .values(
            status=TaskStatus.PROCESSING,
            run=task.run + 1,
            started_at=now,
            finished_at=None,
            expires_at=min(expires_at, task.deadline) if task.deadline else expires_at,
            error=None,
        )
    )
    _reopen(connection, task)
    changes = Changes([types.Started(status=TaskStatus.PROCESSING, run=task.run + 1)])
    _merge(changes, continue_run(connection, task, now=now))
    return changes


def _reopen(connection: Connection, task: Row[Any]) -> None:
    """Steps of the present iteration that came to nothing may be tried again; those that succeeded stay."""
    connection.execute(
        update(steps)
        .where(
            steps.c.task_id == task.id,
            steps.c.iteration == task.iterations,
            steps.c.state.in_([StepState.FAILED, StepState.CANCELLED, StepState.SKIPPED]),
        )
        .values(state=StepState.BLOCKED, failures=0, losses=0, error=None, finished_at=None, worker_id=None)
    )


def continue_run(connection: Connection, task: Row[Any], *, now: datetime) -> Changes:
    """Make ready or skip what the present round allows; when the round has ended, order the next decision."""
    rows = connection.execute(
        select(steps.c.id, steps.c.kind, steps.c.key, steps.c.state, steps.c.depends_on).where(
            steps.c.task_id == task.id, steps.c.iteration == task.iterations
        )
    ).all()
    # The decision stands beside the steps that it ordered; prefixes keep its key from meeting one of theirs.
    step = advance(
        [
            RoundStep(
                row.id, f"{row.kind}:{row.key}", StepState(row.state), tuple(f"agent:{k}" for k in row.depends_on)
            )
            for row in rows
        ]
    )
    if step.done:
        return _order_decision(connection, task, now=now)
    return Changes(queues=_advance_round(connection, step, now=now))


def _advance_round(connection: Connection, step: Advance, *, now: datetime) -> list[str]:
    if step.skipped:
        connection.execute(
            update(steps).where(steps.c.id.in_(step.skipped)).values(state=StepState.SKIPPED, finished_at=now)
        )
    return make_ready(connection, step.ready, from_states=[StepState.BLOCKED])


def _order_decision(connection: Connection, task: Row[Any], *, now: datetime) -> Changes:
    """The coordinator's next decision, as a ready step."""
    iteration = task.iterations + 1
    coordinator = connection.execute(
        select(agents)
        .where(agents.c.network_id == task.network_id, agents.c.type == COORDINATOR)
        .order_by(agents.c.id)
        .limit(1)
    ).one()
    connection.execute(update(tasks).where(tasks.c.id == task.id).values(iterations=iteration))
    planned = [PlannedStep(f"decision_{iteration}", coordinator.name, "Decide what is to be done next.", ())]
    rows = add_steps(
        connection, task, planned, {coordinator.name: coordinator}, StepKind.DECISION, iteration=iteration, now=now
    )
    return Changes(queues=make_ready(connection, [row["id"] for row in rows], from_states=[StepState.BLOCKED]))


def add_steps(  # a step is made of all of these
    connection: Connection,
    task: Row[Any],
    planned: Sequence[PlannedStep],
    members: dict[str, Row[Any]],
    kind: StepKind,
    *,
    iteration: int,
    now: datetime,
) -> list[dict[str, Any]]:
    """Store `planned` steps, blocked (`members`: agents by name); answers their rows.

    A step whose agent has left the network since it was planned has failed before it began.
    """
    live = _live_queues(connection, (member.type for member in members.values()))
    rows = []
    for step in planned:
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
            "attempt": 0,
            "failures": 0,
            "losses": 0,
            "created_at": now,
        }
        rows.append(row | _assignment(members.get(step.agent), live))
    connection.execute(insert(steps), rows)
    return rows


def _assignment(agent: Row[Any] | None, live_queues: frozenset[str]) -> dict[str, Any]:
    if agent is None:
        error = {"code": "agent_removed", "detail": "The agent has left the network."}
        return {"agent_id": "", "agent_type": "", "queue": CUSTOM, "state": StepState.FAILED, "error": error}
    queue = for_step(agent.type, live_queues)
    return {"agent_id": agent.id, "agent_type": agent.type, "queue": queue, "state": StepState.BLOCKED, "error": None}


def _live_queues(connection: Connection, agent_types: Iterable[str]) -> frozenset[str]:
    """Queues that some live pool serves; looked up only when a custom type makes it matter."""
    if all(agent_type in OWN_QUEUE_TYPES for agent_type in agent_types):
        return frozenset()
    served = connection.execute(select(workers.c.queues).where(workers.c.lease_until > func.now())).scalars()
    return frozenset(queue for queues in served for queue in queues)


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
    connection.execute(
        update(tasks).where(tasks.c.id == task.id).values(status=status, finished_at=now, result=result, error=error)
    )
    connection.execute(
        update(steps)
        .where(steps.c.task_id == task.id, steps.c.state.in_(OPEN_STEPS))
        .values(state=StepState.CANCELLED, finished_at=now, turn=None)
    )
    changes = Changes()
    if result is not None:
        changes.events.append(types.Result(result))
    if error is not None:
        changes.events.append(types.Failed(**error))
    changes.events.append(types.Complete(status))
    return changes


def _merge(into: Changes, more: Changes) -> None:
    into.events += more.events
    into.queues += more.queues
