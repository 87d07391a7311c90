"""Networks and their agents: create, read, delete."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import chain, count

from sqlalchemy import Connection, exists, func, insert, select, update
from sqlalchemy import delete as remove
from sqlalchemy.exc import IntegrityError

from mesh.clock import Clock
from mesh.costs import budgets
from mesh.db.tables import agents, memories, networks, steps, tasks
from mesh.db.unit_of_work import Database, UnitOfWork
from mesh.dispatch.queues import COORDINATOR
from mesh.errors import ConflictError, InvalidInputError, NotFoundError, Problem
from mesh.ids import new_id
from mesh.networks.views import AgentConfig, AgentView, NetworkView, NewNetwork
from mesh.security.access import accessible, require
from mesh.security.principal import Principal

# Of a network that is made with as many agents and no coordinator, the one that is added does not count.
MAX_AGENTS = 50


class Networks:
    """Everything about networks but their tasks and memory.

    `defaults` are the agents of a network that is given none (one of them a coordinator); `stop_tasks` ends all
    tasks of a network within the transaction that deletes it; `require_model` raises InvalidInputError for a model
    that nobody knows, given the pointer to where it stood.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        require_model: Callable[[str, str], object],
        defaults: Sequence[AgentConfig],
        stop_tasks: Callable[[UnitOfWork, str], None],
    ) -> None:
        self._database = database
        self._clock = clock
        self._require_model = require_model
        self._defaults = tuple(defaults)
        self._stop_tasks = stop_tasks

    def create(self, principal: Principal, new: NewNetwork) -> NetworkView:
        """Make a network with its agents; it always has a coordinator.

        Raises:
            InvalidInputError: two agents of one name, or an unknown model.
        """
        self._check_agents(new.agents)
        configs = self._with_coordinator(new.agents) if new.agents else self._defaults
        now = self._clock()
        network_id = new_id("network")
        with self._database.begin() as work:
            work.connection.execute(
                insert(networks).values(
                    id=network_id,
                    owner=principal.user_id,
                    name=new.name,
                    description=new.description,
                    shared_context=dict(new.shared_context),
                    max_iterations=new.max_iterations,
                    timeout_seconds=new.timeout_seconds,
                    model_selection=dict(new.model_selection),
                    budget_usd=new.budget_usd,
                    created_at=now,
                    updated_at=now,
                )
            )
            _insert_agents(work.connection, network_id, configs, now)
            if new.budget_usd is not None:
                budgets.limit(work.connection, budgets.Kind.NETWORK, network_id, new.budget_usd, now=now)
            return _views(work.connection, [network_id])[0]

    def list(self, principal: Principal, *, limit: int, before: str | None = None) -> list[NetworkView]:
        """The principal's networks, newest first, ids below `before`."""
        query = select(networks.c.id).where(accessible(principal)).order_by(networks.c.id.desc()).limit(limit)
        if before:
            query = query.where(networks.c.id < before)
        with self._database.begin() as work:
            return _views(work.connection, work.connection.execute(query).scalars().all())

    def get(self, principal: Principal, network_id: str) -> NetworkView:
        """One network; NotFoundError when it is not the principal's."""
        with self._database.begin() as work:
            require(work.connection, principal, network_id)
            return _views(work.connection, [network_id])[0]

    def delete(self, principal: Principal, network_id: str) -> None:
        """Make the network gone for everybody at once; its tasks stop, and what belongs to it is purged behind it."""
        with self._database.begin() as work:
            require(work.connection, principal, network_id)
            work.connection.execute(
                update(networks).where(networks.c.id == network_id).values(deleted_at=self._clock())
            )
            self._stop_tasks(work, network_id)

    def add_agent(self, principal: Principal, network_id: str, config: AgentConfig) -> AgentView:
        """Add an agent.

        Raises:
            ConflictError: the network has one of that name, or as many as there may be.
            InvalidInputError: the model is unknown.
        """
        self._check_model(config, "/agent_config/model")
        with self._database.begin() as work:
            require(work.connection, principal, network_id)
            if len(_locked_members(work.connection, network_id)) >= MAX_AGENTS:
                raise ConflictError(f"A network has at most {MAX_AGENTS} agents: remove one before adding another.")
            try:
                (agent_id,) = _insert_agents(work.connection, network_id, [config], self._clock())
            except IntegrityError as error:
                raise ConflictError("The network has an agent of this name already; names are unique.") from error
            return _agent_views(work.connection, [network_id], agent_id)[0]

    def list_agents(
        self, principal: Principal, network_id: str, *, limit: int, before: str | None = None
    ) -> Sequence[AgentView]:
        """The network's agents, newest first, ids below `before`."""
        with self._database.begin() as work:
            require(work.connection, principal, network_id)
            found = _agent_views(work.connection, [network_id])
        return [view for view in reversed(found) if before is None or view.agent_id < before][:limit]

    def remove_agent(self, principal: Principal, network_id: str, agent_id: str) -> None:
        """Remove an agent; steps that wait for it fail, and the coordinator is told.

        Raises:
            ConflictError: it is the last coordinator.
        """
        with self._database.begin() as work:
            require(work.connection, principal, network_id)
            types = _locked_members(work.connection, network_id)
            if agent_id not in types:
                raise NotFoundError(f"There is no agent {agent_id!r} in this network.")
            if [other for other, type_ in types.items() if type_ == COORDINATOR] == [agent_id]:
                raise ConflictError("A network needs a coordinator: add another one before removing the last.")
            work.connection.execute(remove(agents).where(agents.c.id == agent_id))

    def _with_coordinator(self, configs: Sequence[AgentConfig]) -> Sequence[AgentConfig]:
        if any(config.type == COORDINATOR for config in configs):
            return configs
        coordinator = next(config for config in self._defaults if config.type == COORDINATOR)
        taken = {config.name for config in configs}
        numbered = (f"{coordinator.name} {number}" for number in count(2))
        name = next(name for name in chain([coordinator.name], numbered) if name not in taken)
        return [replace(coordinator, name=name), *configs]

    def _check_agents(self, configs: Sequence[AgentConfig]) -> None:
        names: set[str] = set()
        problems = []
        for index, config in enumerate(configs):
            if config.name in names:
                problems.append(
                    Problem(f"/agents/{index}/name", "duplicate", "Names of agents are unique in a network.")
                )
            names.add(config.name)
        if problems:
            raise InvalidInputError("The agents cannot be made as given.", problems)
        for index, config in enumerate(configs):
            self._check_model(config, f"/agents/{index}/model")

    def _check_model(self, config: AgentConfig, pointer: str) -> None:
        if config.model is not None:
            self._require_model(config.model, pointer)


def _locked_members(connection: Connection, network_id: str) -> dict[str, str]:
    """The type of each agent by its id; who else adds or removes agents waits until the transaction ends."""
    connection.execute(select(networks.c.id).where(networks.c.id == network_id).with_for_update(key_share=True))
    # A statement of its own, since it must see what was committed while the lock was waited for.
    members = select(agents.c.id, agents.c.type).where(agents.c.network_id == network_id)  # uq_agents_network_id_name
    return {row.id: row.type for row in connection.execute(members)}


def _insert_agents(connection: Connection, network_id: str, configs: Sequence[AgentConfig], now: datetime) -> list[str]:
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


def _agent_views(connection: Connection, network_ids: Sequence[str], agent_id: str | None = None) -> list[AgentView]:
    """Agents in the order of their making (uq_agents_network_id_name finds a network's)."""
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
        )
        for row in connection.execute(query)
    ]


def _views(connection: Connection, network_ids: Sequence[str]) -> list[NetworkView]:
    """The networks named, newest first, with one query for the agents of all of them."""
    task_count = select(func.count()).where(tasks.c.network_id == networks.c.id).scalar_subquery()
    memory_count = select(func.count()).where(memories.c.network_id == networks.c.id).scalar_subquery()
    query = (
        select(networks, task_count.label("task_count"), memory_count.label("memory_count"))
        .where(networks.c.id.in_(network_ids))
        .order_by(networks.c.id.desc())
    )
    members: dict[str, list[AgentView]] = {network_id: [] for network_id in network_ids}
    for view in _agent_views(connection, network_ids):
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
            budget_usd=row.budget_usd,
            agent_count=len(members[row.id]),
            task_count=row.task_count,
            memory_count=row.memory_count,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )
        for row in connection.execute(query)
    ]
