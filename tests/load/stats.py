"""`make bench-stats`: what /stats/cost and /stats/usage take over a large ledger, beside the same over a small one.

Both hold 30 days of calls, rolled up but for the last 15 minutes, in databases of one server; requests go to them in
turn.  The small one is as it would be with as many users and networks, and fewer calls.
"""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

from rich.console import Console
from sqlalchemy import Connection, text

from tests.load.side_by_side import compared, server, side

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


def main() -> None:
    """Make both ledgers, ask in turn, print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--calls", type=int, default=10_000_000, help="rows of the large ledger")
    options.add_argument("--base", type=int, default=10_000, help="rows of the small ledger")
    options.add_argument("--networks", type=int, default=40, help="networks that are at work all the time")
    options.add_argument("--runs", type=int, default=30, help="requests of each kind")
    given = options.parse_args()
    fill = partial(_fill, given.networks)
    with (
        tempfile.TemporaryDirectory() as folder,
        server(Path(folder)) as url,
        side(url, given.base, fill) as small,
        side(url, given.calls, fill) as large,
    ):
        days = f"{small.count('usage_daily'):,} and {large.count('usage_daily'):,} rows of days"
        title = f"p50 of {given.runs}, ms; {days}"
        questions = [(path, caller) for path in PATHS for caller in ("administrator", "one user")]
        console.print(compared(small, large, questions, given.runs, title=title, of="calls"))


def _fill(networks: int, connection: Connection, calls: int) -> None:
    values = {"count": calls, "networks": networks, "users": USERS, "types": AGENT_TYPES, "models": MODELS}
    begun = time.monotonic()
    for table in ("model_calls", "usage_hourly", "usage_daily"):
        connection.execute(text(f"ALTER TABLE {table} SET UNLOGGED"))
    connection.execute(text(_CALLS), values)
    connection.execute(text(_HOURS))
    connection.execute(text(_DAYS))
    console.print(f"{calls:,} calls made in {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
