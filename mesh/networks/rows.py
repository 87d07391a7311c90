"""Rows of networks and agents, for `mesh.networks.service`: stored, changed and read within its transactions."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, exists, func, insert, select, true, update

from mesh.db.tables import agents, network_counts, networks, steps
from mesh.ids import new_id
from mesh.networks.views import AgentConfig, AgentView, NetworkView


def insert_agents(connection: Connection, network_id: str, configs: Sequence[AgentConfig], now: datetime) -> list[str]:
    """Store agents; answers their ids."""
    rows = [
        {
            "id": new_id("agent"),
            "network_id": network_id,
            "name": config.name,
            "type": config.type,
            "model": config.model,
            "description": config.description,
            "instructions": config.instructions,
            "parameters": dict(config.parameters),
            "capabilities": list(config.capabilities),
            "created_at": now,
        }
        for config in configs
    ]
    connection.execute(insert(agents), rows)
    return [str(row["id"]) for row in rows]


def change_network(connection: Connection, network_id: str, changes: Mapping[str, Any], now: datetime) -> None:
    """Set columns, and count the change: one of its agents is one of the network, too."""
    version = networks.c.version + 1
    connection.execute(
        update(networks).where(networks.c.id == network_id).values({**changes, "version": version, "updated_at": now})
    )


def change_agent(connection: Connection, agent_id: str, changes: Mapping[str, Any]) -> None:
    """Set columns, and count the change.

    Raises:
        IntegrityError: another one has the name.
    """
    connection.execute(
        update(agents).where(agents.c.id == agent_id).values({**changes, "version": agents.c.version + 1})
    )


def agent_views(connection: Connection, network_ids: Sequence[str], agent_id: str | None = None) -> list[AgentView]:
    """Agents in the order of their making (uq_agents_network_id_name finds a network's, ix_steps_running the steps)."""
    working = exists().where(steps.c.agent_id == agents.c.id, steps.c.state == "running")
    query = select(agents, working.label("working")).where(agents.c.network_id.in_(network_ids)).order_by(agents.c.id)
    if agent_id:
        query = query.where(agents.c.id == agent_id)
    return [
        AgentView(
            agent_id=row.id,
            network_id=row.network_id,
            name=row.name,
            type=row.type,
            model=row.model,
            description=row.description,
            instructions=row.instructions,
            parameters=row.parameters,
            capabilities=tuple(row.capabilities),
            status="working" if row.working else "idle",
            created_at=row.created_at,
            version=row.version,
        )
        for row in connection.execute(query)
    ]


def network_views(connection: Connection, network_ids: Sequence[str]) -> list[NetworkView]:
    """The networks named, newest first, with one query for the agents of all of them.

    Counts are sums of a few rows (the primary key of network_counts), however many there are to be counted.
    """
    counts = (
        select(func.coalesce(func.sum(network_counts.c.tasks), 0).label("tasks"))
        .add_columns(func.coalesce(func.sum(network_counts.c.memories), 0).label("memories"))
        .where(network_counts.c.network_id == networks.c.id)
        .lateral()
    )
    query = (
        select(networks, counts.c.tasks.label("task_count"), counts.c.memories.label("memory_count"))
        .join(counts, true())
        .where(networks.c.id.in_(network_ids))
        .order_by(networks.c.id.desc())
    )
    members: dict[str, list[AgentView]] = {network_id: [] for network_id in network_ids}
    for view in agent_views(connection, network_ids):
        members[view.network_id].append(view)
    return [
        NetworkView(
            network_id=row.id,
            name=row.name,
            description=row.description,
            status="active",
            owner=row.owner,
            agents=tuple(members[row.id]),
            shared_context=row.shared_context,
            max_iterations=row.max_iterations,
            timeout_seconds=row.timeout_seconds,
            model_selection=row.model_selection,
            agent_count=len(members[row.id]),
            task_count=int(row.task_count),
            memory_count=int(row.memory_count),
            created_at=row.created_at,
            updated_at=row.updated_at,
            version=row.version,
        )
        for row in connection.execute(query)
    ]
