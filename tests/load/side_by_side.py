"""The interface on top of databases of one server that differ in size, asked in turn."""

import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flask.testing import FlaskClient
from pydantic import SecretStr
from rich.table import Column, Table
from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.pool import NullPool

from api.app import create_app
from mesh.bootstrap import Mesh, build
from mesh.config import Settings
from mesh.db.migrate import upgrade
from mesh.embedded.postgres import Postgres
from mesh.embedded.supervisor import Supervisor
from mesh.observability import logging
from mesh.security.principal import Role, Scope

USER = "user_1"
_ID = re.compile(r"network_\w+")


@dataclass(frozen=True)
class Side:
    """A database with so many rows, and the interface on top of it."""

    size: int
    mesh: Mesh
    client: FlaskClient
    keys: Mapping[str, str]

    def ask(self, path: str, caller: str) -> float:
        """Ask once; answers the milliseconds."""
        begun = time.perf_counter()
        answer = self.client.get(f"/api/mesh{path}", headers={"X-API-Key": self.keys[caller]})
        assert answer.status_code == 200, answer.text
        return (time.perf_counter() - begun) * 1000

    def count(self, table: str) -> int:
        """How many rows a table has."""
        with self.mesh.database.begin() as work:
            return int(work.connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())  # noqa: S608  # ours


@contextmanager
def server(home: Path) -> Iterator[str]:
    """A server of its own, that need not survive; answers its address."""
    with Supervisor() as services:
        postgres = Postgres(home, durable=False)
        postgres.prepare()
        services.add(postgres.part())
        services.wait_ready()
        yield postgres.url


@contextmanager
def side(server: str, size: int, fill: Callable[[Connection, int], None]) -> Iterator[Side]:
    """A new database that `fill` has filled, with statistics as autovacuum leaves them."""
    name = f"size_{size}"
    with create_engine(server, poolclass=NullPool, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    url = make_url(server).set(database=name).render_as_string(hide_password=False)
    upgrade(url)
    with create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT").connect() as connection:
        fill(connection, size)
        connection.execute(text("VACUUM ANALYZE"))
    secrets = SecretStr("v1:" + "s" * 32)
    settings = Settings(database_url=url, redis_url="redis://127.0.0.1:1", secrets=secrets)
    logging.configure("ERROR")  # that there is no Redis is known
    mesh = build(settings, name="bench")
    admin, _ = mesh.keys.create(user_id="root", role=Role.ADMIN, scopes=list(Scope))
    user, _ = mesh.keys.create(user_id=USER)
    try:
        client = create_app(mesh).test_client()
        yield Side(size, mesh, client, {"administrator": admin, "one user": user})
    finally:
        mesh.database.engine.dispose()


def compared(
    small: Side, large: Side, questions: Sequence[tuple[str, str]], runs: int, *, title: str, of: str
) -> Table:
    """What each question (path and caller) takes on either side: medians of `runs`, asked in turn."""
    sizes = (f"{one.size:,} {of}" for one in (small, large))
    table = Table(Column("", overflow="fold"), "caller", *sizes, "ratio", title=title)
    for path, caller in questions:
        pairs = [(small.ask(path, caller), large.ask(path, caller)) for _ in range(runs)]
        few, many = (statistics.median(times) for times in zip(*pairs, strict=True))
        table.add_row(_ID.sub("{id}", path), caller, f"{few:.1f}", f"{many:.1f}", f"{many / few:.2f}")
    return table
