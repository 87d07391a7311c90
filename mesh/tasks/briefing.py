"""Briefing: everything an agent must know for a step, read in one transaction after the claim."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from mesh.agents.prompts import AgentView, FinishedStep, MemoryView, TaskView
from mesh.agents.runner import DecisionBrief, StepBrief
from mesh.costs import accounts
from mesh.costs.ledger import Spender
from mesh.db.prepared import Prepared
from mesh.dispatch.queues import COORDINATOR
from mesh.errors import AgentRemovedError, StepLostError
from mesh.memory.service import recall
from mesh.models.calls import Preferences
from mesh.tasks.claims import Claim
from mesh.tasks.states import StepKind, TaskStatus

# With less than this share of its time left a task is told to conclude.
CONCLUDE_AT = 0.25


@dataclass(frozen=True)
class Briefing:
    """A claim's brief, with who pays for its calls and when its time is over."""

    brief: DecisionBrief | StepBrief
    spender: Spender
    network_id: str
    expires_at: datetime


# Primary keys, and uq_agents_network_id_name.  A decision is any coordinator's when the one it was for is none now.
_TASK = Prepared(
    f"""
    SELECT tasks.status, tasks.network_id, tasks.key_id, tasks.task, tasks.context, tasks.model_selection,
        tasks.started_at, tasks.expires_at,
        (SELECT min(limit_usd - {accounts.SPENT}) FROM budgets
         WHERE budgets.id = ANY({accounts.TASK_SUBJECTS})) AS budget_left_usd,
        networks.shared_context, networks.max_iterations,
        agents.id AS agent_id, agents.name, agents.type, agents.model, agents.description, agents.instructions,
        agents.parameters, agents.capabilities
    FROM tasks JOIN networks ON networks.id = tasks.network_id
    LEFT JOIN agents ON agents.network_id = tasks.network_id
        AND CASE WHEN :decision THEN agents.type = 'coordinator' ELSE agents.id = :agent_id END
    WHERE tasks.id = :task_id
    ORDER BY agents.id = :agent_id DESC, agents.id LIMIT 1
    """,  # noqa: S608  # built from constants of ours
    decision="boolean",
    now="timestamptz",
)

# uq_agents_network_id_name
_SPECIALISTS = Prepared(
    """
    SELECT name, type, description, instructions, capabilities FROM agents
    WHERE network_id = :network_id AND type <> :type ORDER BY id
    """
)

# ix_steps_task_id_iteration, both.
_FINISHED = Prepared(
    """
    SELECT key, agent_name, description, state, output, confidence, error FROM steps
    WHERE task_id = :task_id AND kind = 'agent' AND state IN ('succeeded', 'failed', 'cancelled', 'skipped')
    ORDER BY iteration, id
    """
)

_INPUTS = Prepared(
    """
    SELECT key, agent_name, description, state, output, confidence, error FROM steps
    WHERE task_id = :task_id AND iteration = :iteration AND kind = 'agent' AND key = ANY(:keys)
    ORDER BY id
    """,
    iteration="int",
    keys="text[]",
)


def prepare(connection: Connection, claim: Claim, *, worker_id: str, now: datetime) -> Briefing:
    """Read the brief of `claim`.

    Raises:
        StepLostError: the task has ended meanwhile.
        AgentRemovedError: nobody is left to do it.
    """
    decides = claim.kind == StepKind.DECISION
    values = {"task_id": claim.task_id, "agent_id": claim.agent_id, "decision": decides, "now": now}
    task = _TASK.execute(connection, values).first()
    # What was claimed when its task was paused goes on.
    if task is None or task.status not in {TaskStatus.PROCESSING, TaskStatus.PAUSED}:
        raise StepLostError("The task has ended.")
    if task.agent_id is None:
        raise AgentRemovedError("The agent has left the network.")
    about = f"{task.task}\n{claim.description}"
    common: dict[str, Any] = {
        "agent": _agent(task),
        "preferences": Preferences(**{**task.model_selection, **({"model": task.model} if task.model else {})}),
        "budget_left_usd": task.budget_left_usd,
        "parameters": task.parameters,
        "task": TaskView(task.task, task.context),
        "shared_context": task.shared_context,
        "memories": [
            MemoryView(item.memory_id, item.type, item.content, item.confidence)
            for item in recall(connection, task.network_id, about, now=now)
        ],
    }
    brief = (
        _decision(connection, claim, task, common, now)
        if decides
        else StepBrief(**common, description=claim.description, inputs=_inputs(connection, claim))
    )
    spender = Spender(
        user_id=claim.owner,
        key_id=task.key_id,
        network_id=task.network_id,
        task_id=claim.task_id,
        step_id=claim.step_id,
        agent_type=claim.agent_type,
        attempt=claim.attempt,
        worker_id=worker_id,
    )
    return Briefing(brief, spender, task.network_id, task.expires_at)


def _decision(
    connection: Connection,
    claim: Claim,
    task: Row[Any],
    common: dict[str, Any],
    now: datetime,
) -> DecisionBrief:
    specialists = _SPECIALISTS.execute(connection, {"network_id": task.network_id, "type": COORDINATOR})
    team = [_agent(member) for member in specialists]
    left = (task.expires_at - now) / (task.expires_at - task.started_at)
    return DecisionBrief(
        **common,
        specialists=team,
        finished=_finished(connection, claim),
        iteration=claim.iteration,
        max_iterations=task.max_iterations,
        must_conclude=claim.iteration >= task.max_iterations or left < CONCLUDE_AT or not team,
    )


def _finished(connection: Connection, claim: Claim) -> list[FinishedStep]:
    """What specialists did in this task so far, in order."""
    if claim.iteration == 1:
        return []
    return [_finished_step(row) for row in _FINISHED.execute(connection, {"task_id": claim.task_id})]


def _inputs(connection: Connection, claim: Claim) -> list[FinishedStep]:
    """The results that the step depends on, in the order of the plan."""
    if not claim.depends_on:
        return []
    values = {"task_id": claim.task_id, "iteration": claim.iteration, "keys": list(claim.depends_on)}
    return [_finished_step(row) for row in _INPUTS.execute(connection, values)]


def _finished_step(row: Row[Any]) -> FinishedStep:
    error = row.error or {}
    return FinishedStep(
        key=row.key,
        agent=row.agent_name,
        description=row.description,
        state=row.state,
        output=row.output,
        confidence=row.confidence,
        error_code=error.get("code"),
        error_detail=error.get("detail"),
    )


def _agent(row: Row[Any]) -> AgentView:
    return AgentView(row.name, row.type, row.description, row.instructions, tuple(row.capabilities))
