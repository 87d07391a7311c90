"""`make bench-stats`: what /stats/cost and /stats/usage take over a large ledger, beside the same over a small one.

Both hold 30 days of calls, rolled up but for the last 15 minutes, in databases of one server; requests go to them in
turn.  The small one is as it would be with as many users and networks, and fewer calls.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flask.testing import FlaskClient
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

from api.app import create_app
from mesh.bootstrap import Mesh, build
from mesh.config import Settings
from mesh.db.migrate import upgrade
from mesh.embedded.postgres import Postgres
from mesh.embedded.supervisor import Supervisor
from mesh.security.principal import Role, Scope

PATHS = ("/stats/cost", "/stats/usage", "/stats/cost?interval=day")
USERS = 20
AGENT_TYPES = 5
MODELS = 4

_CALLS = """
    INSERT INTO model_calls (
        id, user_id, key_id, network_id, task_id, step_id, agent_type, attempt, model, provider, state, reserved_usd,
        prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens, cost_usd, estimated, unpriced, sandbox,
        latency_seconds, created_at, ended_at, rolled)
    SELECT 'call_' || n, 'user_' || network % :users, 'key_' || network % :users, 'network_' || network,
        'task_' || n / 6, 'step_' || n, 'type_' || n / 7 % :types, 1, 'model_' || n / 11 % :models, 'openai',
        CASE WHEN n % 50 = 0 THEN 'failed' ELSE 'settled' END, 0.01,
        1000 + n % 999, 500, 0, 0, 0.000001 * (n % 9999), false, false, false,
        CASE WHEN n % 50 = 0 THEN 0 ELSE n % 100 / 50.0 END, ended_at, ended_at,
        ended_at < now() - interval '15 minutes'
    FROM generate_series(1, CAST(:count AS bigint)) n, LATERAL (SELECT
        CAST(n * 7919 % :networks AS int) AS network, now() - (interval '30 days' * (:count - n)) / :count AS ended_at
    ) given
"""
_HOURS = """
    INSERT INTO usage_hourly
    SELECT date_trunc('hour', ended_at, 'UTC') AS hour, user_id, network_id, key_id, agent_type, model,
        count(*) FILTER (WHERE state = 'settled'), count(*) FILTER (WHERE state = 'failed'), 0,
        sum(cost_usd), sum(latency_seconds)
    FROM model_calls WHERE rolled GROUP BY hour, user_id, network_id, key_id, agent_type, model
"""
_DAYS = """
    INSERT INTO usage_daily
    SELECT date_trunc('day', hour, 'UTC') AS day, user_id, network_id, model,
        sum(settled), sum(failed), sum(cancelled), sum(cost_usd), sum(latency_seconds)
    FROM usage_hourly GROUP BY day, user_id, network_id, model
"""

console = Console()


@dataclass(frozen=True)
class Ledger:
    """A database with `calls`, and the interface on top of it."""

    calls: int
    mesh: Mesh
    client: FlaskClient
    keys: dict[str, str]

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


def main() -> None:
    """Make both ledgers, ask in turn, print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--calls", type=int, default=10_000_000, help="rows of the large ledger")
    options.add_argument("--base", type=int, default=10_000, help="rows of the small ledger")
    options.add_argument("--networks", type=int, default=40, help="networks that are at work all the time")
    options.add_argument("--runs", type=int, default=30, help="requests of each kind")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder, Supervisor() as services:
        postgres = Postgres(Path(folder), durable=False)
        postgres.prepare()
        services.add(postgres.part())
        services.wait_ready()
        with (
            _ledger(postgres.url, given.base, given.networks) as small,
            _ledger(postgres.url, given.calls, given.networks) as large,
        ):
            _compare(small, large, given.runs)


def _compare(small: Ledger, large: Ledger, runs: int) -> None:
    columns = ("", "caller", f"{small.calls:,} calls", f"{large.calls:,} calls", "ratio")
    days = f"{small.count('usage_daily'):,} and {large.count('usage_daily'):,} rows of days"
    table = Table(*columns, title=f"p50 of {runs}, ms; {days}")
    for path in PATHS:
        for caller in ("administrator", "one user"):
            times: dict[int, list[float]] = {small.calls: [], large.calls: []}
            for _ in range(runs):
                for ledger in (small, large):
                    times[ledger.calls].append(ledger.ask(path, caller))
            few, many = (statistics.median(times[ledger.calls]) for ledger in (small, large))
            table.add_row(path, caller, f"{few:.1f}", f"{many:.1f}", f"{many / few:.2f}")
    console.print(table)


@contextmanager
def _ledger(server: str, calls: int, networks: int) -> Iterator[Ledger]:
    name = f"ledger_{calls}"
    with create_engine(server, poolclass=NullPool, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    url = make_url(server).set(database=name).render_as_string(hide_password=False)
    upgrade(url)
    _fill(url, calls, networks)
    secrets = SecretStr("v1:" + "s" * 32)
    settings = Settings(database_url=url, redis_url="redis://127.0.0.1:1", secrets=secrets, log_level="WARNING")
    mesh = build(settings, name="bench")
    admin, _ = mesh.keys.create(user_id="root", role=Role.ADMIN, scopes=list(Scope))
    user, _ = mesh.keys.create(user_id="user_1")
    try:
        client = create_app(mesh).test_client()
        yield Ledger(calls, mesh, client, {"administrator": admin, "one user": user})
    finally:
        mesh.database.engine.dispose()


def _fill(url: str, calls: int, networks: int) -> None:
    values = {"count": calls, "networks": networks, "users": USERS, "types": AGENT_TYPES, "models": MODELS}
    begun = time.monotonic()
    with create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT").connect() as connection:
        for table in ("model_calls", "usage_hourly", "usage_daily"):
            connection.execute(text(f"ALTER TABLE {table} SET UNLOGGED"))
        connection.execute(text(_CALLS), values)
        connection.execute(text(_HOURS))
        connection.execute(text(_DAYS))
        # As autovacuum leaves them.
        connection.execute(text("VACUUM ANALYZE"))
    console.print(f"{calls:,} calls made in {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
