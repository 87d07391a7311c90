"""The API as it is run: a gunicorn process with gevent, on a free port, over real Postgres and Valkey."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from mesh.config import Settings
from mesh.security.keys import bootstrap_admin
from mesh.security.token import key_id_of

SECRETS = "v1:" + "s" * 32


@dataclass
class Service:
    """A running API, and what a test needs beside it."""

    url: str
    database_url: str
    redis_url: str
    log: Path
    process: "subprocess.Popen[bytes]"
    stack: ExitStack
    admin_key: str

    @cached_property
    def admin(self) -> httpx.Client:
        """A client with the administrator's key."""
        return self.client(self.admin_key)

    def user(self, user_id: str, *scopes: str, **asked: object) -> httpx.Client:
        """A client with a fresh key of that user."""
        answer = self.admin.post(
            "/security/api-keys",
            json={"user_id": user_id, "scopes": scopes or ["read", "write", "create", "delete"], **asked},
        )
        assert answer.status_code == 201, answer.text
        return self.client(answer.json()["api_key"])

    def client(self, key: str = "") -> httpx.Client:
        """A client that brings `key`."""
        headers = {"X-API-Key": key} if key else {}
        return self.stack.enter_context(
            httpx.Client(base_url=f"{self.url}/api/mesh", headers=headers, timeout=20, trust_env=False)
        )

    def rows(self) -> dict[str, int]:
        """How many rows each table has."""
        with create_engine(self.database_url, poolclass=NullPool).connect() as connection:
            names = connection.execute(text("SELECT relname FROM pg_stat_user_tables")).scalars().all()
            return {name: connection.execute(text(f'SELECT count(*) FROM "{name}"')).scalar_one() for name in names}  # noqa: S608  # names come from the catalogue


def key_of(client: httpx.Client) -> str:
    """The whole key that a client brings."""
    return client.headers["X-API-Key"]


def key_id(client: httpx.Client) -> str:
    """The id of the key that a client brings."""
    found = key_id_of(key_of(client))
    assert found
    return found


Start = Callable[..., Service]


@pytest.fixture
def start(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Start]:
    """Starts the API; arguments are further environment variables."""
    with ExitStack() as stack:

        def run(**environment: str) -> Service:
            settings = {"MESH_DATABASE_URL": database_url, "MESH_REDIS_URL": redis_url, "MESH_SECRETS": SECRETS}
            return stack.enter_context(_running(settings | environment, database_url, tmp_path))

        yield run


@pytest.fixture
def service(start: Start) -> Service:
    """The API as it is by default."""
    return start()


@contextmanager
def _running(environment: dict[str, str], database_url: str, home: Path) -> Iterator[Service]:
    admin_key = bootstrap_admin(Settings(database_url=database_url, secrets=SecretStr(SECRETS)))
    log = home / "api.log"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MESH_")}
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "api.server", "127.0.0.1", "0", "1"],
            env=inherited | environment,
            stdout=file,
            stderr=subprocess.PIPE,
        )
    assert process.stderr
    url = process.stderr.readline().decode().removeprefix("Listening on ").strip()
    with ExitStack() as stack:
        stack.callback(_stop, process, log)
        yield Service(url, database_url, environment["MESH_REDIS_URL"], log, process, stack, admin_key)


def _stop(process: "subprocess.Popen[bytes]", log: Path) -> None:
    process.terminate()
    _, errors = process.communicate(timeout=20)
    with log.open("ab") as file:
        file.write(errors)
