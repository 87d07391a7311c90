"""Briefing: everything an agent must know for a step, read in one transaction after the claim."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, RowMapping

from mesh.agents.prompts import AgentView, FinishedStep, MemoryView, TaskView
from mesh.agents.runner import DecisionBrief, StepBrief
from mesh.costs import accounts
from mesh.costs.ledger import Spender
from mesh.db.prepared import Prepared
from mesh.errors import AgentRemovedError, StepLostError
from mesh.memory.recall import recall, remembered
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


_ABOUT = "tasks.task || E'\\n' || :description"

# Primary keys, and uq_agents_network_id_name.  A decision is any coordinator's when the one it was for is none now.
# `specialists` are for decisions only, by the same index.  `finished` are the steps that the agent is told of, by
# ix_steps_task_id_iteration: before a decision all that specialists did, before a step those that it depends on.
_TASK = Prepared(
    f"""
    SELECT tasks.status, tasks.network_id, tasks.key_id, tasks.task, tasks.context, tasks.model_selection,
        tasks.started_at, tasks.expires_at,
        (SELECT min(limit_usd - {accounts.SPENT}) FROM budgets
         WHERE budgets.id = ANY({accounts.TASK_SUBJECTS})) AS budget_left_usd,
        networks.shared_context, networks.max_iterations,
        agents.id AS agent_id, agents.name, agents.type, agents.model, agents.description, agents.instructions,
        agents.parameters, agents.capabilities,
        CASE WHEN :decision THEN (
            SELECT jsonb_agg(to_jsonb(member) ORDER BY id) FROM (
                SELECT id, name, type, description, instructions, capabilities FROM agents
                WHERE network_id = tasks.network_id AND type <> 'coordinator') member
        ) END AS specialists,
        CASE WHEN :told THEN (
            SELECT jsonb_agg(to_jsonb(told) ORDER BY iteration, id) FROM (
                SELECT id, iteration, key, agent_name, description, state, output, confidence, error FROM steps
                WHERE task_id = tasks.id AND kind = 'agent' AND CASE
                    WHEN :decision THEN state IN ('succeeded', 'failed', 'cancelled', 'skipped')
                    ELSE iteration = :iteration AND key = ANY(:depends_on) END) told
        ) END AS finished,
        {remembered("tasks.network_id", _ABOUT)} AS remembered
    FROM tasks JOIN networks ON networks.id = tasks.network_id
    LEFT JOIN agents ON agents.network_id = tasks.network_id
        AND CASE WHEN :decision THEN agents.type = 'coordinator' ELSE agents.id = :agent_id END
    WHERE tasks.id = :task_id
    ORDER BY agents.id = :agent_id DESC, agents.id LIMIT 1
    """,  # noqa: S608  # built from constants of ours
    decision="boolean",
    told="boolean",
    iteration="int",
    depends_on="text[]",
    now="timestamptz",
)


def prepare(connection: Connection, claim: Claim, *, worker_id: str, now: datetime) -> Briefing:
    """Read the brief of `claim`.

    Raises:
        StepLostError: the task has ended meanwhile.
        AgentRemovedError: nobody is left to do it.
    """
    decides = claim.kind == StepKind.DECISION
    values = {
        "task_id": claim.task_id,
        "agent_id": claim.agent_id,
        "decision": decides,
        "told": claim.iteration > 1 if decides else bool(claim.depends_on),
        "iteration": claim.iteration,
        "depends_on": list(claim.depends_on),
        "description": claim.description,
        "now": now,
    }
    task = _TASK.execute(connection, values).first()
    # What was claimed when its task was paused goes on.
    if task is None or task.status not in {TaskStatus.PROCESSING, TaskStatus.PAUSED}:
        raise StepLostError("The task has ended.")
    if task.agent_id is None:
        raise AgentRemovedError("The agent has left the network.")
    common: dict[str, Any] = {
        "agent": _agent(task._mapping),
        "preferences": Preferences(**{**task.model_selection, **({"model": task.model} if task.model else {})}),
        "budget_left_usd": task.budget_left_usd,
        "parameters": task.parameters,
        "task": TaskView(task.task, task.context),
        "shared_context": task.shared_context,
        "memories": [
            MemoryView(item.memory_id, item.type, item.content, item.confidence)
            for item in recall(
                connection,
                task.remembered,
                network_id=task.network_id,
                task_id=claim.task_id,
                about=f"{task.task}\n{claim.description}",
                now=now,
            )
        ],
    }
    finished = [_finished_step(step) for step in task.finished or ()]
    brief = (
        _decision(claim, task, common, finished, now)
        if decides
        else StepBrief(**common, description=claim.description, inputs=finished)
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
    claim: Claim, task: Row[Any], common: dict[str, Any], finished: list[FinishedStep], now: datetime
) -> DecisionBrief:
    team = [_agent(member) for member in task.specialists or ()]
    left = (task.expires_at - now) / (task.expires_at - task.started_at)
    return DecisionBrief(
        **common,
        specialists=team,
        finished=finished,
        iteration=claim.iteration,
        max_iterations=task.max_iterations,
        must_conclude=claim.iteration >= task.max_iterations or left < CONCLUDE_AT or not team,
    )


def _finished_step(step: Mapping[str, Any]) -> FinishedStep:
    error = step["error"] or {}
    return FinishedStep(
        key=step["key"],
        agent=step["agent_name"],
        description=step["description"],
        state=step["state"],
        output=step["output"],
        confidence=step["confidence"],
        error_code=error.get("code"),
        error_detail=error.get("detail"),
    )


def _agent(row: RowMapping | Mapping[str, Any]) -> AgentView:
    return AgentView(row["name"], row["type"], row["description"], row["instructions"], tuple(row["capabilities"]))
