"""Submission: a task, its first decision and its first event, stored in one statement.

tasks.service -> here.  It is all that stands between a caller and the answer, so it is one round trip; the network is
looked up, and kept from being deleted, within it.
"""

import json
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from mesh.db.prepared import Prepared
from mesh.dispatch.queues import COORDINATOR
from mesh.errors import NotFoundError
from mesh.events import log, types
from mesh.ids import new_id
from mesh.memory.recall import understanding
from mesh.security import access
from mesh.security.principal import Principal
from mesh.tasks import claims, graph
from mesh.tasks.graph import Member, Owner
from mesh.tasks.states import TaskStatus
from mesh.tasks.views import NewTask

# The coordinator by uq_agents_network_id_name.  Of a held task there is nothing but itself.
_SUBMIT = Prepared(
    f"""
    WITH network AS (
        SELECT id, timeout_seconds, model_selection FROM networks
        WHERE id = :network_id AND {access.ACCESSIBLE} FOR SHARE
    ), coordinator AS (
        SELECT agents.id AS agent_id, agents.name AS agent_name FROM agents, network
        WHERE agents.network_id = network.id AND agents.type = 'coordinator' ORDER BY agents.id LIMIT 1
    ), numbered AS (
        INSERT INTO tasks (
            id, network_id, owner, key_id, status, task, context, priority, model_selection, budget_usd, deadline,
            run, iterations, last_sequence, created_at, started_at, expires_at)
        SELECT :task_id, network.id, :owner, :key_id, :status, :task, :context, :priority,
            network.model_selection || :model_selection, :budget_usd, :deadline,
            :run, :run, :count, :now, CASE WHEN :run = 1 THEN :now END,
            CASE WHEN :run = 1 THEN least(:deadline, :now + network.timeout_seconds * interval '1 second') END
        FROM network
        RETURNING *, 0 AS before
    ), {log.logging()}, ordered AS ({
        claims.inserting(
            "(SELECT jsonb_agg(step || to_jsonb(coordinator)) FROM coordinator, jsonb_array_elements(:steps) step)"
        )
    }), {understanding("numbered")}
    SELECT id, network_id, owner, status, task, context, priority, model_selection, deadline, iterations, created_at,
        started_at, finished_at, result, error
    FROM numbered
    """,  # noqa: S608  # built from constants of ours
    **access.ACCESSIBLE_TYPES,
    context="jsonb",
    priority="smallint",
    model_selection="jsonb",
    budget_usd="numeric",
    deadline="timestamptz",
    run="int",
    count="int",
    now="timestamptz",
    events="jsonb",
    steps="jsonb",
)


def store(
    connection: Connection, principal: Principal, network_id: str, new: NewTask, *, owner: str, now: datetime
) -> tuple[Row[Any], list[str]]:
    """Store a task, started unless it is held; answers its row, and the queue of each step that is ready.

    Nobody can know the task yet, so its first event need not be announced.

    Raises:
        NotFoundError: there is no such network, or it is not the principal's.
    """
    task_id, started = new_id("task"), new.auto_process
    decision = graph.decision_row(Owner(task_id, owner, new.priority), Member("", "", COORDINATOR), iteration=1)
    steps = [decision] if started else []
    events = [types.Started(TaskStatus.PROCESSING, run=1)] if started else []
    values = {
        **access.accessible_values(principal),
        **log.Batch(task_id, events, at=now).values(),
        "network_id": network_id,
        "owner": owner,
        "key_id": principal.key_id,
        "status": TaskStatus.PROCESSING if started else TaskStatus.PENDING,
        "task": new.task,
        "context": json.dumps(dict(new.context)),
        "priority": new.priority,
        "model_selection": json.dumps(dict(new.model_selection)),
        "budget_usd": new.budget_usd,
        "deadline": new.deadline,
        "run": 1 if started else 0,
        "steps": json.dumps(steps),
    }
    row = _SUBMIT.execute(connection, values).first()
    if row is None:
        raise NotFoundError(f"There is no network {network_id!r}.")
    return row, [step["queue"] for step in steps]
