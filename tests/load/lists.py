"""`make bench-api`, its second half: lists and counts with a million tasks in one network, beside the same with few."""

import time
from pathlib import Path

from rich.console import Console
from sqlalchemy import Connection, text

from mesh.ids import new_id
from tests.load.side_by_side import USER, compared, server, side

NETWORK = new_id("network")

# So few are still under way, however many there are.
OPEN_TASKS = 50

_NETWORK = """
    INSERT INTO networks (id, owner, name, description, shared_context, max_iterations, timeout_seconds,
        model_selection, created_at, updated_at)
    VALUES (:network_id, :owner, 'large', '', '{}', 10, 300, '{}', now(), now())
"""
_TASKS = """
    INSERT INTO tasks (id, network_id, owner, status, task, context, priority, model_selection, run, iterations,
        last_sequence, created_at, started_at, finished_at, expires_at, result)
    SELECT 'task_' || stamp || lpad(CAST(n AS text), 16, '0'), :network_id, :owner,
        CASE WHEN n > :count - :open THEN 'processing' WHEN n % 20 = 0 THEN 'failed' ELSE 'completed' END,
        'Write a short e-mail.', '{}', 1, '{}', 1, 2, 12, made, made,
        CASE WHEN n <= :count - :open THEN made END, made + interval '5 minutes', '{"content": "...", "explanation": "",
        "confidence": 0.9}'
    FROM generate_series(1, CAST(:count AS bigint)) n, LATERAL (
        SELECT now() - interval '30 days' * (:count - n) / :count AS made) given, LATERAL (
        SELECT string_agg(substr('0123456789abcdefghjkmnpqrstvwxyz', CAST(
            (CAST(extract(epoch FROM made) * 1000 AS bigint) >> 45 - 5 * place) & 31 AS int) + 1, 1), '') AS stamp
        FROM generate_series(0, 9) place) identifier
"""
_STEPS = """
    INSERT INTO steps (id, task_id, owner, queue, kind, iteration, key, agent_id, agent_name, agent_type, description,
        depends_on, state, priority, attempt, failures, losses, created_at)
    SELECT replace(id, 'task', 'step'), id, owner, 'agent.coordinator', 'decision', 1, 'decision_1', 'agent_1',
        'Coordinator Agent', 'coordinator', '', '{}', 'succeeded', 1, 1, 0, 0, created_at
    FROM tasks
"""

console = Console()


def measure(home: Path, base: int, tasks: int, runs: int) -> None:
    """Fill both, ask in turn, print."""
    since, long_ago = (
        time.strftime("%Y-%m-%dT00:00:00Z", time.gmtime(time.time() - days * 86_400)) for days in (1, 20)
    )
    listed = f"/networks/{NETWORK}/tasks"
    paths = [
        "/networks",
        f"/networks/{NETWORK}",
        listed,
        f"{listed}?limit=200",
        f"{listed}?status=processing",
        f"{listed}?status=failed",
        f"{listed}?status=paused",
        f"{listed}?from={since}",
        f"{listed}?status=cancelled&from={since}",
        f"{listed}?to={long_ago}",
    ]
    questions = [(path, "one user") for path in paths]
    questions += [(path, "administrator") for path in ("/networks", "/health")]
    home.mkdir(mode=0o700)
    with server(home) as url, side(url, base, _fill) as small, side(url, tasks, _fill) as large:
        console.print(compared(small, large, questions, runs, title=f"p50 of {runs}, ms", of="tasks"))


def _fill(connection: Connection, tasks: int) -> None:
    begun = time.monotonic()
    values = {"network_id": NETWORK, "owner": USER, "count": tasks, "open": OPEN_TASKS}
    connection.execute(text("ALTER TABLE steps SET UNLOGGED"))
    for statement in (_NETWORK, _TASKS, _STEPS):
        connection.execute(text(statement), values)
    console.print(f"{tasks:,} tasks made in {time.monotonic() - begun:.0f} s")
