"""What tests make of networks, tasks and steps: rows of them, replies of models, and callers."""

import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, insert, text

from mesh.agents.schemas import Decision, Subtask
from mesh.agents.schemas import Reply as AgentReply
from mesh.db.tables import agents, networks, steps, tasks
from mesh.ids import new_id
from mesh.models import catalogue as catalogues
from mesh.models.board import Board
from mesh.models.breakers import Breakers
from mesh.models.calls import RawReply, Reply, Translator, Usage
from mesh.models.catalogue import Catalogue, Model
from mesh.models.gateway import Gateway
from mesh.models.limits import Limits
from mesh.models.selection import Expectation, Selector
from mesh.security.principal import Principal, Role, Scope
from mesh.testing import AwayRedis

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MODELS = catalogues.load()
COST = Decimal("0.00125")


class Usual:
    """Performance that nothing is known of."""

    def expect(self, _model: Model, _agent_type: str | None) -> Expectation:
        """The same for all."""
        return Expectation(success_rate=0.95, latency_seconds=5)

    def success_lately(self, _model: Model, _agent_type: str | None) -> float:
        """The same for all."""
        return 0.95


def gateway(
    models: Translator,
    *providers: str,
    catalogue: Catalogue = MODELS,
    monotonic: Callable[[], float] = time.monotonic,
) -> Gateway:
    """A gateway to `models` as if `providers` were configured; breakers and limits are this process's own."""
    board = Board(AwayRedis(), monotonic=monotonic)
    breakers = Breakers(board)
    selector = Selector(catalogue, providers, Usual(), closed=lambda name: not breakers.open(name))
    return Gateway(models, selector, breakers, Limits(board, catalogue))


def principal(user_id: str = "ann", role: Role = Role.USER, *networks: str) -> Principal:
    scopes = frozenset(Scope) - (frozenset() if role is Role.ADMIN else {Scope.ADMIN})
    return Principal(user_id, role, scopes, networks=frozenset(networks))


def add_network(
    connection: Connection,
    *types: str,
    owner: str = "ann",
    timeout_seconds: int = 300,
    max_iterations: int = 10,
    model_selection: dict[str, Any] | None = None,
) -> str:
    """A network with a coordinator and an agent of each of `types`, all named by their type."""
    network_id = new_id("network")
    row: dict[str, Any] = {"id": network_id, "owner": owner, "name": "n", "description": "", "shared_context": {}}
    row |= {"max_iterations": max_iterations, "timeout_seconds": timeout_seconds, "created_at": NOW, "updated_at": NOW}
    connection.execute(insert(networks).values(row | {"model_selection": model_selection or {}}))
    for agent_type in ("coordinator", *types):
        add_agent(connection, network_id, agent_type)
    return network_id


def add_agent(connection: Connection, network_id: str, agent_type: str, name: str | None = None) -> str:
    agent_id = new_id("agent")
    row: dict[str, Any] = {"id": agent_id, "network_id": network_id, "name": name or agent_type, "type": agent_type}
    row |= {"description": "", "instructions": "", "parameters": {}, "capabilities": [], "created_at": NOW}
    connection.execute(insert(agents).values(row))
    return agent_id


def add_task(connection: Connection, network_id: str, owner: str = "ann", **values: Any) -> str:  # noqa: ANN401  # columns
    """A task being processed, without steps; `values` are columns (of any type)."""
    task_id = new_id("task")
    row: dict[str, Any] = {"id": task_id, "network_id": network_id, "owner": owner, "status": "processing"}
    row |= {"task": "t", "context": {}, "priority": 1, "model_selection": {}, "run": 1, "iterations": 0}
    connection.execute(insert(tasks).values(row | {"last_sequence": 0, "created_at": NOW, **values}))
    return task_id


def add_step(connection: Connection, task_id: str, owner: str = "ann", **values: Any) -> str:  # noqa: ANN401  # columns
    """A blocked step of `agent.content`; `values` are columns (of any type)."""
    row: dict[str, Any] = {"id": new_id("step"), "task_id": task_id, "owner": owner, "queue": "agent.content"}
    row |= {"kind": "agent", "iteration": 1, "agent_id": "a", "agent_name": "content", "agent_type": "content"}
    row |= {"description": "", "depends_on": [], "state": "blocked", "priority": 1, "attempt": 0, "failures": 0}
    row = row | {"losses": 0, "created_at": NOW} | values
    connection.execute(insert(steps).values({"key": row["id"]} | row))
    return str(row["id"])


_BULK = text(
    """
    INSERT INTO steps (id, task_id, owner, queue, kind, iteration, key, agent_id, agent_name, agent_type, description,
                       depends_on, state, priority, turn, attempt, failures, losses, created_at)
    SELECT format('step_%s_%s', CAST(:prefix AS text), lpad(n::text, 8, '0')), :task_id,
           :prefix || (n % :owners), :queue, 'agent', 1, n::text, 'a', 'content', 'content', '', '{}',
           'ready', 1 + (n * 7) % :priorities, 2 * (n / :owners), 0, 0, 0, :now
    FROM generate_series(0, :count - 1) n
    """
)


def add_ready_steps(
    connection: Connection,
    task_id: str,
    count: int,
    *,
    prefix: str = "owner",
    owners: int = 1,
    priorities: int = 10,
    queue: str = "agent.content",
) -> None:
    """`count` ready steps of mixed `priorities`, as if so many `owners` (`prefix` and a number) queued them in turn."""
    values: dict[str, Any] = {"task_id": task_id, "count": count, "prefix": prefix, "owners": owners}
    values |= {"priorities": priorities, "queue": queue, "now": NOW}
    connection.execute(_BULK, values)


def subtask(key: str, agent: str = "content", *depends_on: str) -> Subtask:
    return Subtask(key=key, agent=agent, description=f"Do {key}", depends_on=list(depends_on))


def decision(*subtasks: Subtask) -> Decision:
    """A decision for `subtasks`; without any it completes the task."""
    return Decision(
        reasoning="So it is best.",
        task_complete=not subtasks,
        subtasks=list(subtasks),
        memories=[],
        content="" if subtasks else "The deliverable",
        explanation="",
        confidence=0.9,
    )


def agent_reply(result: str = "The result", memories: Sequence[dict[str, Any]] = ()) -> AgentReply:
    given = {"reasoning": "r", "result": result, "confidence": 0.8, "memories": list(memories)}
    return AgentReply.model_validate_json(json.dumps(given))


def reply_of(value: Decision | AgentReply, call_id: str) -> Reply[Any]:
    """What the gateway answers when a model said `value`; costs `COST`."""
    raw = RawReply(value.model_dump_json(), Usage(100, 10), COST)
    return Reply(value, call_id, MODELS.resolve("gpt-4o"), raw, 0.5)
