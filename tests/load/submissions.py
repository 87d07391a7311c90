"""`make bench-api`, its first half: submissions beside a bare Flask endpoint with one INSERT and one `apply_async`.

Both on one worker of the same server, with the same database and broker, asked in turn; nobody works on what comes in.
"""

import http.client
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pydantic import SecretStr
from rich.console import Console
from rich.table import Table
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from mesh.bootstrap import build
from mesh.config import Settings
from mesh.db.migrate import upgrade
from mesh.embedded.parts import environment
from mesh.embedded.postgres import Postgres
from mesh.embedded.process import free_port
from mesh.embedded.supervisor import Supervisor
from mesh.embedded.valkey import Valkey
from mesh.networks.views import NewNetwork
from mesh.security.principal import Principal, Role, Scope
from tests.load.bare import TABLE
from tests.load.client import CAMPAIGN
from tests.system import eventually

CALLERS = 8
ROUND = 400

console = Console()


@dataclass
class Target:
    """An endpoint that takes submissions, and the milliseconds that each took."""

    port: int
    path: str
    headers: dict[str, str]
    took: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def load(self, count: int) -> None:
        """Submit `count` tasks, from eight callers at once, each on a connection of its own."""
        begun = time.monotonic()
        with ThreadPoolExecutor(CALLERS) as callers:
            for took in callers.map(self._submit, [count // CALLERS] * CALLERS):
                self.took += took
        self.seconds += time.monotonic() - begun

    def _submit(self, count: int) -> list[float]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        body, took = json.dumps(CAMPAIGN), []
        for _ in range(count):
            begun = time.perf_counter()
            connection.request("POST", self.path, body, self.headers)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 202, answer.status
            took.append((time.perf_counter() - begun) * 1000)
        connection.close()
        return took


def measure(home: Path, rounds: int) -> None:
    """Start both, ask them in turn, print."""
    with _services(home) as settings:
        ours, bare = free_port(), free_port()
        network_id, key = _network(settings)
        with (
            _server(settings, "api.server", "127.0.0.1", str(ours), "1"),
            _server(settings, "tests.load.bare", "127.0.0.1", str(bare)),
        ):
            headers = {"Content-Type": "application/json", "X-API-Key": key}
            mesh = Target(ours, f"/api/mesh/networks/{network_id}/tasks", headers)
            control = Target(bare, "/tasks", headers)
            for target in (mesh, control):
                eventually(partial(_answers, target.port))
                target.load(ROUND)
                target.took.clear()
                target.seconds = 0
            for _ in range(rounds):
                mesh.load(ROUND)
                control.load(ROUND)
    _print(mesh, control)


def _print(mesh: Target, control: Target) -> None:
    table = Table("", "requests/s", "p50 ms", "p99 ms", "p99 / p50", title=f"Submissions, {CALLERS} callers")
    for name, target in (("POST .../tasks", mesh), ("Flask, INSERT, apply_async", control)):
        cuts = statistics.quantiles(target.took, n=100)
        rate = len(target.took) / target.seconds
        table.add_row(name, f"{rate:.0f}", f"{cuts[49]:.1f}", f"{cuts[98]:.1f}", f"{cuts[98] / cuts[49]:.2f}")
    console.print(table)
    console.print(f"Requests/s beside the control's: {control.seconds / mesh.seconds:.2f}")


@contextmanager
def _services(home: Path) -> Iterator[Settings]:
    with Supervisor() as services:
        postgres, valkey = Postgres(home), Valkey(home)
        postgres.prepare()
        services.add(postgres.part(), valkey.part())
        services.wait_ready()
        upgrade(postgres.url)
        with create_engine(postgres.url, poolclass=NullPool).begin() as connection:
            connection.execute(text(TABLE))
        secrets = SecretStr("v1:" + "s" * 32)
        yield Settings(
            home=home,
            database_url=postgres.url,
            redis_url=valkey.url,
            secrets=secrets,
            sandbox=True,
            log_level="WARNING",
            auth="keys",
        )


def _network(settings: Settings) -> tuple[str, str]:
    """A network, and the key of its owner."""
    mesh = build(settings, name="bench")
    scopes = [Scope.READ, Scope.WRITE, Scope.CREATE]
    key, view = mesh.keys.create(user_id="ann", scopes=scopes)
    ann = Principal("ann", Role.USER, frozenset(scopes), key_id=view.key_id)
    network = mesh.networks.create(ann, NewNetwork(name="submissions"))
    mesh.database.engine.dispose()
    return network.network_id, key


@contextmanager
def _server(settings: Settings, module: str, *arguments: str) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-m", module, *arguments], env=environment(settings))
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def _answers(port: int) -> bool:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        connection.request("GET", "/api/mesh/health/live")
        return connection.getresponse().status in (200, 404)
    except OSError:
        return False
