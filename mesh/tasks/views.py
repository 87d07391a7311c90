"""Tasks and steps as callers give and see them, and the queries that read them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, case, func, select

from mesh.db.tables import model_calls, steps
from mesh.tasks.states import OPEN_STEPS, TaskStatus


@dataclass(frozen=True)
class NewTask:
    """A task to be done; `priority` 10 is most urgent; a service may submit it on behalf of a user."""

    task: str
    context: Mapping[str, Any] = field(default_factory=dict)
    priority: int = 1
    deadline: datetime | None = None
    model_selection: Mapping[str, Any] = field(default_factory=dict)
    budget_usd: Decimal | None = None
    auto_process: bool = True
    on_behalf_of: str | None = None


@dataclass(frozen=True)
class Progress:
    """Steps so far; a task that goes on may get more."""

    steps_total: int = 0
    steps_done: int = 0


@dataclass(frozen=True)
class Spent:
    """Tokens and calls, as the ledger has them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    calls: int = 0


@dataclass(frozen=True)
class TaskView:
    """A task; cost in US dollars, exact, and growing until the calls of a cancelled task have settled."""

    task_id: str
    network_id: str
    owner: str
    status: TaskStatus
    task: str
    context: Mapping[str, Any]
    priority: int
    model_selection: Mapping[str, Any]
    deadline: datetime | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    iterations: int
    progress: Progress
    result: Mapping[str, Any] | None
    error: Mapping[str, Any] | None
    usage: Spent
    cost_usd: Decimal
    models: Sequence[str]
    sandbox: bool


@dataclass(frozen=True)
class StepView:
    """A node of the task's graph; `depends_on` are keys of the same iteration."""

    step_id: str
    key: str
    kind: str
    iteration: int
    agent: str
    agent_id: str
    agent_type: str
    description: str
    depends_on: Sequence[str]
    status: str
    attempts: int
    model: str | None
    usage: Spent
    cost_usd: Decimal
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    output: str | None
    confidence: float | None
    memories_used: Sequence[str]
    error: Mapping[str, Any] | None
    calls: Sequence["CallView"]


@dataclass(frozen=True)
class CallView:
    """One model call of a step: what came of it, and why its model was chosen."""

    call_id: str
    model: str
    requested_model: str | None
    status: str
    error_code: str | None
    usage: Spent
    cost_usd: Decimal
    estimated: bool
    latency_seconds: float | None
    created_at: datetime
    selection: Mapping[str, Any] | None


@dataclass(frozen=True)
class TaskRef:
    """Enough of a task to stream it."""

    task_id: str
    network_id: str
    status: TaskStatus


@dataclass(frozen=True)
class _Bill:
    usage: Spent = field(default_factory=Spent)
    cost_usd: Decimal = Decimal(0)
    models: tuple[str, ...] = ()
    sandbox: bool = False


def task_views(connection: Connection, rows: Sequence[Row[Any]]) -> list[TaskView]:
    """The tasks of `rows` (whole rows of `tasks`), in their order: one query for steps, one for the ledger."""
    ids = [row.id for row in rows]
    done = func.count(case((steps.c.state.not_in(OPEN_STEPS), 1)))
    counted = select(steps.c.task_id, func.count(), done).where(steps.c.task_id.in_(ids)).group_by(steps.c.task_id)
    progress = {task_id: Progress(total, ended) for task_id, total, ended in connection.execute(counted)}
    bills = _bills(connection, ids)
    return [_task_view(row, progress.get(row.id, Progress()), bills.get(row.id, _Bill())) for row in rows]


def new_task_view(row: Row[Any], *, steps_total: int = 0) -> TaskView:
    """A task that was stored just now: nothing of it has been done, or charged, yet."""
    return _task_view(row, Progress(steps_total), _Bill())


def step_views(connection: Connection, task_id: str) -> list[StepView]:
    """The task's steps in the order of their making (ix_steps_task_id_iteration)."""
    rows = connection.execute(
        select(steps).where(steps.c.task_id == task_id).order_by(steps.c.iteration, steps.c.id)
    ).all()
    calls: dict[str, list[Row[Any]]] = defaultdict(list)
    made = select(model_calls).where(model_calls.c.task_id == task_id).order_by(model_calls.c.id)
    for call in connection.execute(made):  # ix_model_calls_task_id
        calls[call.step_id].append(call)
    return [_step_view(row, calls[row.id]) for row in rows]


def _bills(connection: Connection, task_ids: Sequence[str]) -> dict[str, _Bill]:
    """What the calls of each task used (ix_model_calls_task_id)."""
    query = select(
        model_calls.c.task_id,
        func.sum(model_calls.c.prompt_tokens),
        func.sum(model_calls.c.completion_tokens),
        func.count(),
        func.sum(model_calls.c.cost_usd),
        func.array_agg(model_calls.c.model.distinct()),
        func.bool_or(model_calls.c.sandbox),
    )
    query = query.where(model_calls.c.task_id.in_(task_ids)).group_by(model_calls.c.task_id)
    return {
        key: _Bill(Spent(int(prompt), int(completion), calls), cost, tuple(models), sandbox)
        for key, prompt, completion, calls, cost, models, sandbox in connection.execute(query)
    }


def _task_view(row: Row[Any], progress: Progress, bill: _Bill) -> TaskView:
    return TaskView(
        task_id=row.id,
        network_id=row.network_id,
        owner=row.owner,
        status=TaskStatus(row.status),
        task=row.task,
        context=row.context,
        priority=row.priority,
        model_selection=row.model_selection,
        deadline=row.deadline,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        iterations=row.iterations,
        progress=progress,
        result=row.result,
        error=row.error,
        usage=bill.usage,
        cost_usd=bill.cost_usd,
        models=bill.models,
        sandbox=bill.sandbox,
    )


def _step_view(row: Row[Any], calls: Sequence[Row[Any]]) -> StepView:
    return StepView(
        step_id=row.id,
        key=row.key,
        kind=row.kind,
        iteration=row.iteration,
        agent=row.agent_name,
        agent_id=row.agent_id,
        agent_type=row.agent_type,
        description=row.description,
        depends_on=row.depends_on,
        status=row.state,
        attempts=row.attempt,
        model=row.model,
        usage=Spent(
            sum(call.prompt_tokens for call in calls), sum(call.completion_tokens for call in calls), len(calls)
        ),
        cost_usd=sum((call.cost_usd for call in calls), Decimal(0)),
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        output=row.output,
        confidence=row.confidence,
        memories_used=row.memories_used,
        error=row.error,
        calls=[_call_view(call) for call in calls],
    )


def _call_view(row: Row[Any]) -> CallView:
    return CallView(
        call_id=row.id,
        model=row.model,
        requested_model=row.requested_model,
        status=row.state,
        error_code=row.error_code,
        usage=Spent(row.prompt_tokens, row.completion_tokens, 1),
        cost_usd=row.cost_usd,
        estimated=row.estimated,
        latency_seconds=row.latency_seconds,
        created_at=row.created_at,
        selection=row.selection,
    )
