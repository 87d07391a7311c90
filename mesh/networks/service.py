"""Networks and their agents: create, read, change, delete.

Whoever changes a network or its agents holds the network's row until the end; `if_version` is checked below that lock.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import chain, count
from typing import Any

import structlog
from sqlalchemy import Connection, Row, insert, select, update
from sqlalchemy import delete as remove
from sqlalchemy.exc import IntegrityError

from mesh.clock import Clock
from mesh.costs import budgets
from mesh.db.tables import agents, networks
from mesh.db.unit_of_work import Database, UnitOfWork
from mesh.dispatch.queues import COORDINATOR
from mesh.errors import ConflictError, ContentionError, InvalidInputError, NotFoundError, Problem, UnavailableError
from mesh.ids import new_id
from mesh.networks.rows import agent_views, change_agent, change_network, insert_agents, network_views
from mesh.networks.views import AgentChanges, AgentConfig, AgentView, NetworkChanges, NetworkView, NewNetwork
from mesh.security.access import accessible, require, require_version
from mesh.security.principal import Principal

log = structlog.get_logger(__name__)

# Of a network that is made with as many agents and no coordinator, the one that is added does not count.
MAX_AGENTS = 50

_NAME_TAKEN = "The network has an agent of this name already; names are unique."


class Networks:
    """Everything about networks but their tasks and memory.

    `defaults` are the agents of a network that is given none (one of them a coordinator); `stop_tasks` ends all
    tasks of a network that is deleted; `require_model` raises InvalidInputError for a model
    that nobody knows, given the pointer to where it stood.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        require_model: Callable[[str, str], object],
        defaults: Sequence[AgentConfig],
        stop_tasks: Callable[[str], None],
    ) -> None:
        self._database = database
        self._clock = clock
        self._require_model = require_model
        self._defaults = tuple(defaults)
        self._stop_tasks = stop_tasks

    def create(self, principal: Principal, new: NewNetwork, *, within: UnitOfWork | None = None) -> NetworkView:
        """Make a network with its agents; it always has a coordinator.

        Raises:
            InvalidInputError: two agents of one name, or an unknown model.
        """
        self._check_selection(new.model_selection)
        self._check_agents(new.agents)
        configs = self._with_coordinator(new.agents) if new.agents else self._defaults
        now = self._clock()
        network_id = new_id("network")
        with self._database.begin(within=within) as work:
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
            insert_agents(work.connection, network_id, configs, now)
            if new.budget_usd is not None:
                budgets.limit(work.connection, budgets.Kind.NETWORK, network_id, new.budget_usd, now=now)
            return network_views(work.connection, [network_id])[0]

    def list(self, principal: Principal, *, limit: int, before: str | None = None) -> list[NetworkView]:
        """The principal's networks, newest first, ids below `before`."""
        query = select(networks.c.id).where(accessible(principal)).order_by(networks.c.id.desc()).limit(limit)
        if before:
            query = query.where(networks.c.id < before)
        with self._database.begin() as work:
            return network_views(work.connection, work.connection.execute(query).scalars().all())

    def get(self, principal: Principal, network_id: str) -> NetworkView:
        """One network; NotFoundError when it is not the principal's."""
        with self._database.begin() as work:
            require(work.connection, principal, network_id)
            return network_views(work.connection, [network_id])[0]

    def require(self, principal: Principal, network_id: str, *, within: UnitOfWork) -> None:
        """Pass when the network is there for the principal; NotFoundError when it is not."""
        require(within.connection, principal, network_id)

    def change(
        self,
        principal: Principal,
        network_id: str,
        changes: NetworkChanges,
        *,
        if_version: Collection[int] | None = None,
    ) -> NetworkView:
        """Change what is named; tasks under way see it with their next step, but keep their time-out and models.

        Raises:
            InvalidInputError: an unknown model.
            StaleVersionError: it is at none of these versions.
        """
        self._check_selection(changes.get("model_selection", {}))
        with self._database.begin() as work:
            network = require(work.connection, principal, network_id, change=True)
            require_version(network.version, if_version)
            if changes:
                change_network(work.connection, network_id, changes, self._clock())
            return network_views(work.connection, [network_id])[0]

    def delete(self, principal: Principal, network_id: str, *, if_version: Collection[int] | None = None) -> None:
        """Make the network gone for everybody at once; its tasks stop, and what belongs to it is purged behind it.

        Raises:
            StaleVersionError: it is at none of these versions.
        """
        with self._database.begin() as work:
            network = require(work.connection, principal, network_id, change=True)
            require_version(network.version, if_version)
            work.connection.execute(
                update(networks).where(networks.c.id == network_id).values(deleted_at=self._clock())
            )
        # Without the row: whoever submits waits for it, each with a connection that others need.
        try:
            self._stop_tasks(network_id)
        except (UnavailableError, ContentionError):  # it is deleted all the same, and the purge goes on
            log.exception("network_not_stopped", network_id=network_id)

    def add_agent(
        self, principal: Principal, network_id: str, config: AgentConfig, *, within: UnitOfWork | None = None
    ) -> AgentView:
        """Add an agent.

        Raises:
            ConflictError: the network has one of that name, or as many as there may be.
            InvalidInputError: the model is unknown.
        """
        self._check_model(config.model, "/agent_config/model")
        with self._database.begin(within=within) as work:
            require(work.connection, principal, network_id, change=True)
            if len(_members(work.connection, network_id)) >= MAX_AGENTS:
                raise ConflictError(f"A network has at most {MAX_AGENTS} agents: remove one before adding another.")
            now = self._clock()
            try:
                (agent_id,) = insert_agents(work.connection, network_id, [config], now)
            except IntegrityError as error:
                raise ConflictError(_NAME_TAKEN) from error
            change_network(work.connection, network_id, {}, now)
            return agent_views(work.connection, [network_id], agent_id)[0]

    def get_agent(self, principal: Principal, network_id: str, agent_id: str) -> AgentView:
        """One agent; NotFoundError when it is not in that network, or not the principal's."""
        with self._database.begin() as work:
            require(work.connection, principal, network_id)
            found = agent_views(work.connection, [network_id], agent_id)
        if not found:
            raise _no_agent(agent_id)
        return found[0]

    def list_agents(
        self, principal: Principal, network_id: str, *, limit: int, before: str | None = None
    ) -> Sequence[AgentView]:
        """The network's agents, newest first, ids below `before`."""
        with self._database.begin() as work:
            require(work.connection, principal, network_id)
            found = agent_views(work.connection, [network_id])
        return [view for view in reversed(found) if before is None or view.agent_id < before][:limit]

    def change_agent(
        self,
        principal: Principal,
        network_id: str,
        agent_id: str,
        changes: AgentChanges,
        *,
        if_version: Collection[int] | None = None,
    ) -> AgentView:
        """Change what is named of an agent; steps that were planned for it stay its own, and in their queue.

        Raises:
            ConflictError: another one has the name, or it is the last coordinator and would be none.
            InvalidInputError: the model is unknown.
            StaleVersionError: it is at none of these versions.
        """
        self._check_model(changes.get("model"), "/agent_config/model")
        with self._database.begin() as work:
            require(work.connection, principal, network_id, change=True)
            members = _members(work.connection, network_id)
            _require_agent(members, agent_id, if_version)
            if changes.get("type", COORDINATOR) != COORDINATOR:
                _require_other_coordinator(members, agent_id)
            if changes:
                try:
                    change_agent(work.connection, agent_id, changes)
                except IntegrityError as error:
                    raise ConflictError(_NAME_TAKEN) from error
                change_network(work.connection, network_id, {}, self._clock())
            return agent_views(work.connection, [network_id], agent_id)[0]

    def remove_agent(
        self, principal: Principal, network_id: str, agent_id: str, *, if_version: Collection[int] | None = None
    ) -> None:
        """Remove an agent; steps that wait for it fail, and the coordinator is told.

        Raises:
            ConflictError: it is the last coordinator.
            StaleVersionError: it is at none of these versions.
        """
        with self._database.begin() as work:
            require(work.connection, principal, network_id, change=True)
            members = _members(work.connection, network_id)
            _require_agent(members, agent_id, if_version)
            _require_other_coordinator(members, agent_id)
            work.connection.execute(remove(agents).where(agents.c.id == agent_id))
            change_network(work.connection, network_id, {}, self._clock())

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
            self._check_model(config.model, f"/agents/{index}/model")

    def _check_selection(self, selection: Mapping[str, Any]) -> None:
        self._check_model(selection.get("model"), "/model_selection/model")

    def _check_model(self, model: str | None, pointer: str) -> None:
        if model is not None:
            self._require_model(model, pointer)


def _members(connection: Connection, network_id: str) -> dict[str, Row[*tuple[Any, ...]]]:
    """Type and version of each agent by its id (uq_agents_network_id_name).

    A statement of its own, so that it sees what was committed while the lock was waited for.
    """
    query = select(agents.c.id, agents.c.type, agents.c.version)
    return {row.id: row for row in connection.execute(query.where(agents.c.network_id == network_id))}


def _require_agent(
    members: Mapping[str, Row[*tuple[Any, ...]]], agent_id: str, if_version: Collection[int] | None
) -> None:
    if agent_id not in members:
        raise _no_agent(agent_id)
    require_version(members[agent_id].version, if_version)


def _require_other_coordinator(members: Mapping[str, Row[*tuple[Any, ...]]], agent_id: str) -> None:
    if [other for other, row in members.items() if row.type == COORDINATOR] == [agent_id]:
        raise ConflictError("A network needs a coordinator: add another one first.")


def _no_agent(agent_id: str) -> NotFoundError:
    return NotFoundError(f"There is no agent {agent_id!r} in this network.")
