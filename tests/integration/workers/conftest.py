"""Worker and beat processes over real Postgres and Valkey, and the services beside them, in this process."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr
from redis import Redis
from sqlalchemy import Row, create_engine, make_url, text
from sqlalchemy.pool import NullPool

from mesh import bootstrap
from mesh.config import Settings
from mesh.embedded.supervisor import Supervisor
from mesh.networks.views import AgentConfig, NewNetwork
from mesh.security.principal import LOCAL
from mesh.tasks.views import NewTask, TaskView
from tests.sandbox import Sandbox, sandbox, sandbox_process
from tests.system import eventually, part

__all__ = ["sandbox", "sandbox_process"]

# Four seconds of computing, when nothing else computes.
START_SECONDS = 60.0

SECRETS = "v1:" + "s" * 32
SPECIALIST = AgentConfig("Content Specialist", "content")


@dataclass
class Fleet:
    """Parts of a system that a test starts as it needs them, and the services, to give them work."""

    mesh: bootstrap.Mesh
    sandbox: Sandbox
    home: Path
    stack: ExitStack
    _logs: dict[int, Path] = field(default_factory=dict)

    def worker(self, *options: str, slots: int = 8) -> "subprocess.Popen[bytes]":
        """Start `mesh worker`; it takes seconds until it serves, see `serving`."""
        return self._start("worker", "--concurrency", str(slots), *options)

    def beat(self) -> "subprocess.Popen[bytes]":
        """Start `mesh beat`."""
        return self._start("beat")

    def serving(self, *processes: "subprocess.Popen[bytes]") -> None:
        """Return when all of these hold their leases."""
        for process in processes:
            serves = partial(self._serves, process)
            eventually(serves, START_SECONDS, every=0.05)

    def kill(self, process: "subprocess.Popen[bytes]") -> None:
        """Kill (-9) a part."""
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    def network(self, *agents: AgentConfig, timeout_seconds: int = 300) -> str:
        """A network whose coordinator has one specialist, or `agents`: a task is three calls in a row."""
        new = NewNetwork("test", agents=agents or (SPECIALIST,), timeout_seconds=timeout_seconds)
        return self.mesh.networks.create(LOCAL, new).network_id

    def submit(self, network_id: str, **fields: Any) -> str:  # noqa: ANN401  # NewTask's own
        """Submit a task; its id."""
        return self.mesh.tasks.submit(LOCAL, network_id, NewTask("Write a text.", **fields)).task_id

    def task(self, network_id: str, task_id: str) -> TaskView:
        """The task as it is now."""
        return self.mesh.tasks.get(LOCAL, network_id, task_id)

    def ended(self, network_id: str, task_id: str, seconds: float = 30.0) -> TaskView:
        """The task, as soon as it has ended."""
        eventually(lambda: self.task(network_id, task_id).finished_at, seconds, every=0.05)
        return self.task(network_id, task_id)

    def rows(self, query: str, **values: object) -> Sequence[Row[Any]]:
        """What the database says."""
        with self.mesh.database.begin() as work:
            return work.connection.execute(text(query), values).all()

    def log(self, process: "subprocess.Popen[bytes]") -> str:
        """What a part has logged so far."""
        return self._logs[process.pid].read_text()

    def logged(self, process: "subprocess.Popen[bytes]", event: str, seconds: float = 60.0) -> None:
        """Return when a part that runs has logged `event`; its start may be all that takes long."""

        def has_logged() -> bool:
            assert process.poll() is None, self.log(process)
            return event in self.log(process)

        eventually(has_logged, seconds, every=0.05)

    def _start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        log = self.home / f"{arguments[0]}-{len(self._logs)}.log"
        process = self.stack.enter_context(part(*arguments, log=log, variables=self.variables()))
        self._logs[process.pid] = log
        return process

    def _serves(self, process: "subprocess.Popen[bytes]") -> object:
        assert process.poll() is None, self.log(process)
        return self.rows("SELECT 1 FROM workers WHERE pid = :pid", pid=process.pid)

    def variables(self) -> Mapping[str, str]:
        """The environment of its parts."""
        settings = self.mesh.settings
        services = {"MESH_DATABASE_URL": settings.database_url, "MESH_REDIS_URL": settings.redis_url}
        return services | {"MESH_SECRETS": SECRETS} | self.sandbox.env


@contextmanager
def fleet_on(database_url: str, redis_url: str, sandbox: Sandbox, home: Path) -> Iterator[Fleet]:
    """A system without any part yet."""
    settings = Settings(database_url=database_url, redis_url=redis_url, secrets=SecretStr(SECRETS))
    mesh = bootstrap.build(settings, name="test")
    with ExitStack() as stack:
        stack.callback(mesh.database.engine.dispose)
        yield Fleet(mesh, sandbox, home, stack)


@pytest.fixture
def fleet(database_url: str, redis_flushed: str, sandbox: Sandbox, tmp_path: Path) -> Iterator[Fleet]:
    """A system without any part yet, on a database of its own."""
    with fleet_on(database_url, redis_flushed, sandbox, tmp_path) as system:
        yield system


@pytest.fixture(scope="module")
def module_database_url(postgres_url: str, migrated_database: str) -> str:
    """A database of the module's own, with the newest schema and nothing in it."""
    name = f"workers_{uuid4().hex}"
    admin = create_engine(postgres_url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {migrated_database}"))
    return make_url(postgres_url).set(database=name).render_as_string(hide_password=False)


@pytest.fixture(scope="module")
def shared_fleet(
    module_database_url: str, redis_url: str, sandbox_process: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """A system with one worker, for all tests of a module that leave it alive."""
    # A Valkey database of its own: its worker would take the permits of a test's own system, and claim nothing.
    apart = redis_url.removesuffix("/0") + "/1"
    with fleet_on(module_database_url, apart, sandbox_process, tmp_path_factory.mktemp("fleet")) as system:
        system.serving(system.worker())
        yield system


@pytest.fixture
def working(shared_fleet: Fleet, sandbox: Sandbox) -> Fleet:
    """The module's system, and a sandbox without calls, faults and latency."""
    assert shared_fleet.sandbox is sandbox
    return shared_fleet


@pytest.fixture
def restart_valkey(services: Supervisor, redis_url: str) -> Callable[[], None]:
    """Kills (-9) Valkey, and returns when it serves again."""

    def restart() -> None:
        pid = services.pid("valkey")
        assert pid
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: services.pid("valkey") not in (pid, None), every=0.01)
        services.wait_ready()
        with Redis.from_url(redis_url) as client:
            assert client.ping()

    return restart
