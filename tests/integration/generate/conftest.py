"""The API, a control worker and the sandbox, each a process, over real Postgres and Valkey."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from redis import Redis
from sqlalchemy import Row, create_engine, make_url, text
from sqlalchemy.pool import NullPool

from tests.sandbox import Sandbox, sandbox, sandbox_process
from tests.system import eventually, part

__all__ = ["sandbox", "sandbox_process"]

Told = tuple[str, dict[str, Any]]


@dataclass
class Site:
    """A running system for direct generation; workers come and go."""

    database_url: str
    redis_url: str
    sandbox: Sandbox
    home: Path
    stack: ExitStack
    url: str = ""
    _started: list[Path] = field(default_factory=list)
    _workers: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    def api(self) -> None:
        """Start the API, which lets everybody at this machine act as one user."""
        _, log = self._start("api", "--port", "0")
        eventually(lambda: "Listening on" in log.read_text(), every=0.02)
        self.url = log.read_text().partition("Listening on ")[2].split()[0]

    def worker(self, slots: int = 8) -> "subprocess.Popen[bytes]":
        """Start a control worker, and return when it serves."""
        process, log = self._start("worker", "--control", "--concurrency", str(slots))
        eventually(lambda: "worker_ready" in log.read_text() or process.poll() is not None, 60, every=0.05)
        assert process.poll() is None, log.read_text()
        self._workers.append(process)
        return process

    def workers(self) -> "list[subprocess.Popen[bytes]]":
        """The workers that live."""
        return [worker for worker in self._workers if worker.poll() is None]

    def client(self) -> httpx.Client:
        """A client of the REST interface."""
        return httpx.Client(base_url=f"{self.url}/api/mesh", timeout=20, trust_env=False)

    @contextmanager
    def generating(self, prompt: str = "Write a short text.", **asked: object) -> Iterator[Iterator[Told]]:
        """A generation under way, as what it tells; leaving the block hangs up."""
        with (
            self.client() as client,
            client.stream("POST", "/generate/stream?format=ndjson", json={"prompt": prompt, **asked}) as answer,
        ):
            assert answer.status_code == 200, answer.read()
            yield _told(answer.iter_lines())

    def generate(self, prompt: str = "Write a short text.", **asked: object) -> list[Told]:
        """All that a generation tells."""
        with self.generating(prompt, **asked) as told:
            return list(told)

    def refused(self, status: int, prompt: str = "Write a short text.", **asked: object) -> httpx.Response:
        """The answer to a generation that is not begun."""
        with self.client() as client:
            answer = client.post("/generate/stream", json={"prompt": prompt, **asked})
        assert answer.status_code == status, answer.text
        return answer

    def rows(self) -> Sequence[Row[Any]]:
        """The ledger."""
        with create_engine(self.database_url, poolclass=NullPool).connect() as connection:
            return connection.execute(text("SELECT * FROM model_calls ORDER BY id")).all()

    def ledger(self) -> list[Row[Any]]:
        """The ledger, as soon as no call is open any more."""
        eventually(lambda: all(row.state != "reserved" for row in self.rows()), 5, every=0.05)
        return list(self.rows())

    def forget(self) -> None:
        """Empty the ledger and Redis."""
        with create_engine(self.database_url, poolclass=NullPool).begin() as connection:
            connection.execute(text("DELETE FROM model_calls"))
        with Redis.from_url(self.redis_url) as client:
            for key in client.scan_iter("mesh:*"):
                client.delete(key)

    def _start(self, *arguments: str) -> "tuple[subprocess.Popen[bytes], Path]":
        log = self.home / f"{len(self._started)}.log"
        self._started.append(log)
        variables = {
            "MESH_DATABASE_URL": self.database_url,
            "MESH_REDIS_URL": self.redis_url,
            "MESH_SECRETS": "v1:" + "s" * 32,
            "MESH_AUTH": "local",
            "MESH_GENERATE_PER_USER": "2",
        }
        process = self.stack.enter_context(part(*arguments, log=log, variables=variables | self.sandbox.env))
        return process, log


def _told(lines: Iterator[str]) -> Iterator[Told]:
    for line in lines:
        if line:
            fields = json.loads(line)
            yield fields.pop("event"), fields


def joined(told: Sequence[Told]) -> str:
    """The text of all tokens."""
    return "".join(fields["text"] for type_, fields in told if type_ == "token")


@pytest.fixture(scope="module")
def running(
    postgres_url: str,
    migrated_database: str,
    redis_url: str,
    sandbox_process: Sandbox,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    """The module's system, an API and one worker, with a Valkey database of its own."""
    name = f"generate_{uuid4().hex}"
    with create_engine(postgres_url, poolclass=NullPool, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {migrated_database}"))
    url = make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
    with ExitStack() as stack:
        apart = redis_url.removesuffix("/0") + "/2"
        site = Site(url, apart, sandbox_process, tmp_path_factory.mktemp("generate"), stack)
        site.api()
        site.worker()
        yield site


@pytest.fixture
def site(running: Site, sandbox: Sandbox) -> Site:
    """The module's system without calls, faults and latency."""
    assert running.sandbox is sandbox
    running.forget()
    return running
