"""Changing networks, agents and memory: what is named and nothing else, and never what somebody else has changed."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from mesh.agents.kinds import DEFAULTS
from mesh.errors import ConflictError, InvalidInputError, NotFoundError, StaleVersionError
from mesh.memory.service import Memory
from mesh.memory.views import NewMemory
from mesh.networks.service import Networks
from mesh.networks.views import AgentConfig, AgentView, NetworkView, NewNetwork
from mesh.tasks.briefing import prepare
from tests.builders import MODELS, principal
from tests.integration.tasks.core import ANN, WORKER, Core

BOB = principal("bob")


@pytest.fixture
def service(core: Core) -> Networks:
    defaults = [AgentConfig(kind.name, kind.type) for kind in DEFAULTS]
    return Networks(
        core.database, core.clock, require_model=MODELS.require, defaults=defaults, stop_tasks=core.tasks.stop_network
    )


@pytest.fixture
def memory(core: Core) -> Memory:
    return Memory(core.database, core.clock)


@pytest.fixture
def network(core: Core, service: Networks) -> NetworkView:
    made = service.create(ANN, NewNetwork("Campaigns", "of this year", shared_context={"tone": "warm"}))
    core.clock.advance(5)
    return made


def _agent(network: NetworkView, type_: str) -> AgentView:
    return next(agent for agent in network.agents if agent.type == type_)


def test_what_is_left_out_of_a_change_stays(core: Core, service: Networks, network: NetworkView) -> None:
    changed = service.change(ANN, network.network_id, {"name": "News", "max_iterations": 3})
    kept = {"name": "News", "max_iterations": 3, "version": 2, "updated_at": core.clock()}
    assert vars(changed) == {**vars(network), **kept}
    assert service.get(ANN, network.network_id) == changed
    assert service.change(ANN, network.network_id, {}) == changed
    agent = _agent(network, "content")
    renamed = service.change_agent(ANN, network.network_id, agent.agent_id, {"name": "Writer"})
    assert vars(renamed) == {**vars(agent), "name": "Writer", "version": 2}


def test_an_unknown_model_changes_nothing(service: Networks, network: NetworkView) -> None:
    agent_id = _agent(network, "content").agent_id
    changes: list[tuple[str, Callable[[], object]]] = [
        (
            "/model_selection/model",
            lambda: service.change(ANN, network.network_id, {"model_selection": {"model": "x"}}),
        ),
        ("/agent_config/model", lambda: service.change_agent(ANN, network.network_id, agent_id, {"model": "x"})),
        ("/model_selection/model", lambda: service.create(ANN, NewNetwork("n", model_selection={"model": "x"}))),
    ]
    for pointer, change in changes:
        with pytest.raises(InvalidInputError) as refused:
            change()
        assert [problem.pointer for problem in refused.value.problems] == [pointer]
    assert service.list(ANN, limit=9) == [network]


def test_names_stay_unique_and_a_coordinator_stays(service: Networks, network: NetworkView) -> None:
    coordinator, content = _agent(network, "coordinator").agent_id, _agent(network, "content").agent_id
    with pytest.raises(ConflictError, match="unique"):
        service.change_agent(ANN, network.network_id, content, {"name": _agent(network, "design").name})
    with pytest.raises(ConflictError, match="coordinator"):
        service.change_agent(ANN, network.network_id, coordinator, {"type": "content"})
    assert service.get(ANN, network.network_id) == network
    service.change_agent(ANN, network.network_id, content, {"type": "coordinator"})
    service.change_agent(ANN, network.network_id, coordinator, {"type": "content"})
    with pytest.raises(ConflictError, match="coordinator"):
        service.remove_agent(ANN, network.network_id, content)


def test_two_coordinators_cannot_step_down_at_once(service: Networks, network: NetworkView) -> None:
    both = [_agent(network, "coordinator").agent_id, _agent(network, "content").agent_id]
    service.change_agent(ANN, network.network_id, both[1], {"type": "coordinator"})

    def step_down(agent_id: str) -> bool:
        try:
            service.change_agent(ANN, network.network_id, agent_id, {"type": "design"})
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(step_down, both)) == [False, True]


def test_of_many_who_change_the_same_version_one_does(service: Networks, network: NetworkView) -> None:
    def change(number: int) -> bool:
        try:
            service.change(ANN, network.network_id, {"name": f"n{number}"}, if_version={1})
        except StaleVersionError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(change, range(8))) == 1
    assert service.get(ANN, network.network_id).version == 2


def test_what_changed_since_it_was_read_is_neither_changed_nor_removed(
    service: Networks, memory: Memory, network: NetworkView
) -> None:
    network_id, agent_id = network.network_id, _agent(network, "content").agent_id
    memory_id = memory.add(ANN, network_id, NewMemory("x")).memory_id
    memory.change(ANN, network_id, memory_id, {"content": "y"})
    service.change_agent(ANN, network_id, agent_id, {"description": "y"})  # a change of its network, too
    before = service.get(ANN, network_id), memory.get(ANN, network_id, memory_id)
    refused: list[Callable[[], object]] = [
        lambda: service.change(ANN, network_id, {"name": "z"}, if_version={1}),
        lambda: service.delete(ANN, network_id, if_version={1}),
        lambda: service.change_agent(ANN, network_id, agent_id, {"name": "z"}, if_version={1}),
        lambda: service.remove_agent(ANN, network_id, agent_id, if_version={1, 3}),
        lambda: memory.change(ANN, network_id, memory_id, {"content": "z"}, if_version={1}),
        lambda: memory.remove(ANN, network_id, memory_id, if_version=set()),
    ]
    for change in refused:
        with pytest.raises(StaleVersionError):
            change()
    assert (service.get(ANN, network_id), memory.get(ANN, network_id, memory_id)) == before
    memory.remove(ANN, network_id, memory_id, if_version={2})
    service.remove_agent(ANN, network_id, agent_id, if_version={2})
    service.delete(ANN, network_id, if_version={3})


def test_a_decision_goes_to_who_is_coordinator_when_it_is_made(
    core: Core, service: Networks, network: NetworkView
) -> None:
    first, second = _agent(network, "coordinator"), _agent(network, "content")
    core.submit(network.network_id)
    claim = core.claim()
    service.change_agent(ANN, network.network_id, second.agent_id, {"type": "coordinator"})
    for type_, decides in (("coordinator", first), ("design", second)):
        service.change_agent(ANN, network.network_id, first.agent_id, {"type": type_})
        with core.database.begin() as work:
            brief = prepare(work.connection, claim, worker_id=WORKER, now=core.clock()).brief
        assert (claim.agent_id, brief.agent.name) == (first.agent_id, decides.name)


def test_an_agent_works_while_a_step_of_it_runs(core: Core, service: Networks) -> None:
    network_id = core.network()
    (agent,) = service.get(ANN, network_id).agents
    task = core.submit(network_id)
    assert service.get_agent(ANN, network_id, agent.agent_id).status == "idle"
    core.claim()
    assert service.get_agent(ANN, network_id, agent.agent_id).status == "working"
    core.tasks.cancel(ANN, network_id, task.task_id)
    assert service.get_agent(ANN, network_id, agent.agent_id).status == "idle"


def test_a_memory_is_changed_counted_and_forgotten(core: Core, memory: Memory) -> None:
    network_id = core.network()
    given = memory.add(ANN, network_id, NewMemory("Readers skim.", confidence=0.5, ttl_seconds=60))
    core.clock.advance(30)
    changed = memory.change(ANN, network_id, given.memory_id, {"content": "Readers read.", "ttl_seconds": None})
    expected = {"content": "Readers read.", "expires_at": None, "version": 2, "updated_at": core.clock()}
    assert vars(changed) == {**vars(given), **expected}
    assert memory.search(ANN, network_id, "read", limit=9) == [changed]
    assert memory.change(ANN, network_id, given.memory_id, {}) == changed
    memory.change(ANN, network_id, given.memory_id, {"ttl_seconds": 10})
    core.clock.advance(10)
    with pytest.raises(NotFoundError):
        memory.get(ANN, network_id, given.memory_id)


def test_what_is_not_in_the_network_or_not_ones_own_is_not_found(
    core: Core, service: Networks, memory: Memory, network: NetworkView
) -> None:
    elsewhere, agent_id = core.network(), _agent(network, "content").agent_id
    memory_id = memory.add(ANN, network.network_id, NewMemory("x")).memory_id
    for who, network_id in ((BOB, network.network_id), (ANN, elsewhere)):
        looks: list[Callable[[], object]] = [
            lambda: service.get_agent(who, network_id, agent_id),  # noqa: B023  # called in this round
            lambda: service.change_agent(who, network_id, agent_id, {"name": "x"}),  # noqa: B023  # likewise
            lambda: memory.get(who, network_id, memory_id),  # noqa: B023  # likewise
            lambda: memory.change(who, network_id, memory_id, {"content": "x"}),  # noqa: B023  # likewise
            lambda: memory.remove(who, network_id, memory_id),  # noqa: B023  # likewise
        ]
        for look in looks:
            with pytest.raises(NotFoundError):
                look()
    with pytest.raises(NotFoundError):
        service.change(BOB, network.network_id, {"name": "x"})
