"""Briefing: everything an agent must know for a step, read in one transaction after the claim."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select

from mesh.agents.prompts import AgentView, FinishedStep, MemoryView, TaskView
from mesh.agents.runner import DecisionBrief, StepBrief
from mesh.costs.ledger import Spender
from mesh.db.tables import agents, networks, steps, tasks
from mesh.dispatch.queues import COORDINATOR
from mesh.errors import StepLostError
from mesh.memory.service import recall
from mesh.tasks.claims import Claim
from mesh.tasks.states import OPEN_STEPS, StepKind, TaskStatus

# With less than this share of its time left a task is told to conclude.
CONCLUDE_AT = 0.25


@dataclass(frozen=True)
class Briefing:
    """A claim's brief, with who pays for its calls and when its time is over."""

    brief: DecisionBrief | StepBrief
    spender: Spender
    network_id: str
    expires_at: datetime


class AgentRemovedError(Exception):
    """The agent that the step was for has left the network."""


def prepare(connection: Connection, claim: Claim, *, now: datetime) -> Briefing:
    """Read the brief of `claim`.

    Raises:
        StepLostError: the task has ended meanwhile.
        AgentRemovedError: nobody is left to do it.
    """
    task = connection.execute(
        select(tasks, networks.c.shared_context, networks.c.max_iterations)
        .join(networks, networks.c.id == tasks.c.network_id)
        .where(tasks.c.id == claim.task_id)
    ).first()
    if task is None or task.status != TaskStatus.PROCESSING:
        raise StepLostError("The task has ended.")
    members = connection.execute(
        select(agents).where(agents.c.network_id == task.network_id).order_by(agents.c.id)
    ).all()
    mine = next((member for member in members if member.id == claim.agent_id), None)
    if mine is None:
        raise AgentRemovedError
    about = f"{task.task}\n{claim.description}"
    common: dict[str, Any] = {
        "agent": _agent(mine),
        "model": mine.model or task.model_selection.get("model"),
        "parameters": mine.parameters,
        "task": TaskView(task.task, task.context),
        "shared_context": task.shared_context,
        "memories": [
            MemoryView(item.memory_id, item.type, item.content, item.confidence)
            for item in recall(connection, task.network_id, about, now=now)
        ],
    }
    brief = (
        _decision(connection, claim, task, [m for m in members if m.type != COORDINATOR], common, now)
        if claim.kind == StepKind.DECISION
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
    )
    return Briefing(brief, spender, task.network_id, task.expires_at)


def _decision(  # what the brief is made of
    connection: Connection,
    claim: Claim,
    task: Row[Any],
    specialists: list[Row[Any]],
    common: dict[str, Any],
    now: datetime,
) -> DecisionBrief:
    left = (task.expires_at - now) / (task.expires_at - task.started_at)
    return DecisionBrief(
        **common,
        specialists=[_agent(member) for member in specialists],
        finished=_finished(connection, claim),
        iteration=claim.iteration,
        max_iterations=task.max_iterations,
        must_conclude=claim.iteration >= task.max_iterations or left < CONCLUDE_AT or not specialists,
    )


def _finished(connection: Connection, claim: Claim) -> list[FinishedStep]:
    """What specialists did in this task so far, in order."""
    query = (
        select(steps)
        .where(steps.c.task_id == claim.task_id, steps.c.kind == StepKind.AGENT, steps.c.state.not_in(OPEN_STEPS))
        .order_by(steps.c.iteration, steps.c.id)
    )
    return [_finished_step(row) for row in connection.execute(query)] if claim.iteration > 1 else []


def _inputs(connection: Connection, claim: Claim) -> list[FinishedStep]:
    """The results that the step depends on, in the order of the plan."""
    if not claim.depends_on:
        return []
    query = (
        select(steps)
        .where(
            steps.c.task_id == claim.task_id,
            steps.c.iteration == claim.iteration,
            steps.c.kind == StepKind.AGENT,
            steps.c.key.in_(claim.depends_on),
        )
        .order_by(steps.c.id)
    )
    return [_finished_step(row) for row in connection.execute(query)]


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
