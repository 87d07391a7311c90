"""A system without services: what the views call, answering from memory and remembering what it was asked."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from flask import Flask
from pydantic import SecretStr
from werkzeug.test import TestResponse

from api.app import create_app
from mesh.config import Settings
from mesh.costs.statistics import RequestCounts
from mesh.costs.views import CostView, DayCost, DayUsage, Query, UsageView
from mesh.db.idempotency import Attempt, Kept
from mesh.db.unit_of_work import UnitOfWork
from mesh.errors import KeyReusedError, NotFoundError, UnauthenticatedError
from mesh.health import Counts, HealthReport
from mesh.memory.views import MemoryView, NewMemory, Source
from mesh.networks.views import AgentConfig, AgentView, NetworkView, NewNetwork
from mesh.security.keys import KeyView
from mesh.security.principal import Principal, Role, Scope
from mesh.tasks.states import TaskStatus
from mesh.tasks.tickets import Ticket
from mesh.tasks.views import NewTask, Progress, Spent, TaskView

AT = datetime(2026, 11, 22, 9, 30, 0, 125_000, tzinfo=UTC)
NETWORK_ID = "network_" + "1" * 26
TASK_ID = "task_" + "2" * 26
# A value for each variable of a path.
EXAMPLES = {"network_id": NETWORK_ID, "task_id": TASK_ID, "agent_id": "agent_" + "3" * 26, "api_key": "key_" + "4" * 26}
EXAMPLES |= {"memory_id": "memory_" + "5" * 26}
EXAMPLES |= {"kinds": "tasks", "subject": TASK_ID}
SECRETS = "v1:" + "s" * 32
ALL = frozenset(Scope) - {Scope.ADMIN}
USER = Principal("ann", Role.USER, ALL, "key_" + "a" * 26)
ADMIN = Principal("root", Role.ADMIN, frozenset(Scope), "key_" + "b" * 26)


def network_view(new: NewNetwork, number: int = 1) -> NetworkView:
    return NetworkView(
        network_id=f"network_{number:026}",
        name=new.name,
        description=new.description,
        status="active",
        owner="ann",
        agents=tuple(agent_view(config) for config in new.agents),
        shared_context=new.shared_context,
        max_iterations=new.max_iterations,
        timeout_seconds=new.timeout_seconds,
        model_selection=new.model_selection,
        agent_count=len(new.agents),
        task_count=0,
        memory_count=0,
        created_at=AT,
        updated_at=AT,
        version=1,
    )


def agent_view(config: AgentConfig) -> AgentView:
    return AgentView("agent_" + "3" * 26, NETWORK_ID, **vars(config), status="idle", created_at=AT, version=1)


def task_view(new: NewTask, status: TaskStatus = TaskStatus.PENDING) -> TaskView:
    return TaskView(
        task_id=TASK_ID,
        network_id=NETWORK_ID,
        owner=new.on_behalf_of or "ann",
        status=status,
        task=new.task,
        context=new.context,
        priority=new.priority,
        model_selection=new.model_selection,
        deadline=new.deadline,
        created_at=AT,
        started_at=AT,
        finished_at=None,
        iterations=0,
        progress=Progress(),
        result=None,
        error=None,
        usage=Spent(),
        cost_usd=Decimal("0.000123"),
        models=(),
        sandbox=False,
    )


class Recorder:
    """Remembers the calls that reached a service; `stored` is what would be in the database."""

    def __init__(self) -> None:
        self.stored: list[Any] = []


class FakeNetworks(Recorder):
    gone = False

    def require(self, _principal: Principal, network_id: str, **_: object) -> None:
        if self.gone:
            raise NotFoundError(f"There is no network {network_id!r}.")

    def create(self, _principal: Principal, new: NewNetwork, **_: object) -> NetworkView:
        self.stored.append(new)
        return network_view(new)

    def list(self, _principal: Principal, *, limit: int, before: str | None = None) -> Sequence[NetworkView]:
        every = [network_view(NewNetwork(f"n{number}"), number) for number in range(120, 0, -1)]
        return [view for view in every if before is None or view.network_id < before][:limit]

    def get(self, _principal: Principal, network_id: str) -> NetworkView:
        raise NotFoundError(f"There is no network {network_id!r}.")

    def add_agent(self, _principal: Principal, _network_id: str, config: AgentConfig, **_: object) -> AgentView:
        self.stored.append(config)
        return agent_view(config)

    def list_agents(self, *_: object, **__: object) -> Sequence[AgentView]:
        return []

    def get_agent(self, *_: object) -> AgentView:
        return agent_view(AgentConfig("a", "seo"))

    def change(self, _principal: Principal, _network_id: str, changes: object, *, if_version: object) -> NetworkView:
        self.stored.append((changes, if_version))
        return network_view(NewNetwork("n"))

    def change_agent(self, *asked: object, if_version: object) -> AgentView:
        self.stored.append((asked[-1], if_version))
        return agent_view(AgentConfig("a", "seo"))


class FakeTasks(Recorder):
    status = TaskStatus.PENDING

    def submit(self, _principal: Principal, _network_id: str, new: NewTask, **_: object) -> TaskView:
        self.stored.append(new)
        return task_view(new)

    def list(self, *_: object, **asked: object) -> Sequence[TaskView]:
        self.stored.append(asked)
        return []

    def get(self, *_: object) -> TaskView:
        return task_view(NewTask("x"), self.status)

    process = cancel = get


class FakeMemory(Recorder):
    def add(self, _principal: Principal, network_id: str, new: NewMemory, **_: object) -> MemoryView:
        self.stored.append(new)
        return memory_view(network_id, new, 1)

    def list(self, _principal: Principal, network_id: str, *, limit: int, **_: object) -> Sequence[MemoryView]:
        return [memory_view(network_id, NewMemory("x"), number) for number in range(limit)]

    def search(
        self, _principal: Principal, network_id: str, _query: str, *, limit: int, **_: object
    ) -> Sequence[MemoryView]:
        return [memory_view(network_id, NewMemory("x"), number) for number in range(limit)]

    def change(self, *asked: object, if_version: object) -> MemoryView:
        self.stored.append((asked[-1], if_version))
        return memory_view(NETWORK_ID, NewMemory("x"), 1)


def memory_view(network_id: str, new: NewMemory, number: int) -> MemoryView:
    return MemoryView(
        memory_id=f"memory_{number:026}",
        network_id=network_id,
        content=new.content,
        type=new.type,
        confidence=new.confidence,
        metadata=new.metadata,
        pinned=new.pinned,
        expires_at=None,
        source=Source("user"),
        created_at=AT,
        updated_at=AT,
        version=1,
    )


class FakeStatistics:
    """`asked` are the queries that came; `requests` those that were counted."""

    def __init__(self) -> None:
        self.asked: list[Query] = []
        self.requests: Counter[Any] = Counter()
        self.days = [date(2026, 11, 22)]

    def cost(self, _principal: Principal, query: Query) -> CostView:
        self.asked.append(query)
        usd = Decimal("0.10")
        series = [DayCost(day, usd) for day in self.days]
        return CostView(usd, {"gpt-4o": usd}, {"ann": usd}, {"none": usd}, "a to b", series)

    def usage(self, _principal: Principal, query: Query) -> UsageView:
        self.asked.append(query)
        series = [DayUsage(day, 3, 2, 1) for day in self.days]
        api_calls = {"read": 1, "write": 0, "generate": 0}
        return UsageView(3, 2, 1, {"gpt-4o": 3}, {"gpt-4o": 0.5}, api_calls, "a to b", series)

    def add_requests(self, counts: RequestCounts) -> None:
        self.requests.update(counts)


class FakeKeys(Recorder):
    """`keys` maps whole keys to who they are."""

    def __init__(self) -> None:
        super().__init__()
        self.keys = {"user-key": USER, "admin-key": ADMIN}

    def verify(self, key: str) -> Principal:
        if key not in self.keys:
            raise UnauthenticatedError("The API key does not hold.")
        return self.keys[key]

    def is_live(self, _key_id: str) -> bool:
        return True

    def create(self, *, user_id: str, role: Role, scopes: Sequence[Scope], **_: object) -> tuple[str, KeyView]:
        self.stored.append(user_id)
        view = KeyView("key_" + "c" * 26, user_id, role, frozenset(scopes), "", (), AT, AT, None, None)
        return "the-whole-key", view

    def list(self, **_: object) -> Sequence[KeyView]:
        return []

    def revoke(self, key: str) -> None:
        raise NotFoundError(f"There is no key {key}.")


class FakeIdempotency:
    """Keeps answers by id, as the table does."""

    def __init__(self) -> None:
        self.kept: dict[bytes, tuple[bytes, Kept]] = {}

    @contextmanager
    def attempt(self, id: bytes, fingerprint: bytes) -> Iterator[Attempt]:  # noqa: A002  # as the service has it
        before = self.kept.get(id)
        if before is not None and before[0] != fingerprint:
            raise KeyReusedError("This key came with another body before.")
        yield Attempt(id, fingerprint, UnitOfWork(None), before[1] if before else None)  # type: ignore[arg-type]  # unused

    def keep(self, attempt: Attempt, answer: Kept) -> None:
        self.kept[attempt.id] = (attempt.fingerprint, answer)


class FakeTickets(Recorder):
    within: UnitOfWork | None = None

    def issue(self, _principal: Principal, task_id: str, *, within: UnitOfWork | None) -> Ticket:
        self.within = within
        self.stored.append(task_id)
        return Ticket(f"ticket {len(self.stored)} for {task_id}", AT)

    def redeem(self, ticket: str, task_id: str) -> Principal:
        if not ticket.endswith(f" for {task_id}"):
            raise UnauthenticatedError("The ticket does not hold.")
        return USER


class FakeGenerations(Recorder):
    def admit(self, _principal: Principal, new: object) -> None:
        self.stored.append(new)


@dataclass
class FakeHealth:
    status: str = "healthy"
    counted: int = 0

    def report(self) -> HealthReport:
        return HealthReport(self.status, {}, AT)  # type: ignore[arg-type]  # any text

    def ready(self) -> str:
        return self.status

    def counts(self) -> Counts:
        self.counted += 1
        return Counts(active_networks_count=1, active_tasks_count=2)


@dataclass
class FakeMesh:
    settings: Settings = field(default_factory=lambda: Settings(secrets=SecretStr(SECRETS), redis_url="redis://unused"))
    networks: FakeNetworks = field(default_factory=FakeNetworks)
    tasks: FakeTasks = field(default_factory=FakeTasks)
    memory: FakeMemory = field(default_factory=FakeMemory)
    keys: FakeKeys = field(default_factory=FakeKeys)
    statistics: FakeStatistics = field(default_factory=FakeStatistics)
    health: FakeHealth = field(default_factory=FakeHealth)
    generations: FakeGenerations = field(default_factory=FakeGenerations)
    idempotency: FakeIdempotency = field(default_factory=FakeIdempotency)
    tickets: FakeTickets = field(default_factory=FakeTickets)
    events: object = None
    live: object = None

    @property
    def stored(self) -> int:
        """How much a request left behind."""
        return sum(len(one.stored) for one in (self.networks, self.tasks, self.memory, self.keys, self.generations))

    def app(self) -> Flask:
        return create_app(self)  # type: ignore[arg-type]  # a Mesh to the views


def _routes() -> Iterator[tuple[str, str, str]]:
    for rule in FakeMesh().app().url_map.iter_rules():
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            built = rule.build({name: EXAMPLES[name] for name in rule.arguments})
            assert built is not None
            yield rule.endpoint, method, built[1]


# Operation, method and path of every route.
ROUTES = list(_routes())


def wire(answer: TestResponse) -> dict[str, Any]:
    """The object of JSON that was answered."""
    assert isinstance(answer.json, dict)
    return answer.json
