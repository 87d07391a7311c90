"""The ledger against what the providers have seen, after faults, cancelled tasks and workers killed with calls open."""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import count
from typing import Any

from sqlalchemy import Row

from mesh.costs.budgets import Kind
from mesh.errors import ConflictError
from mesh.security.principal import LOCAL, Role
from tests.builders import principal
from tests.integration.models.faults import bill
from tests.integration.workers.conftest import Fleet
from tests.system import eventually

ADMIN = principal("root", Role.ADMIN)
PLENTY_USD = Decimal(10_000)
SECONDS = 120.0

WAVE = 10
UNDER_WAY = 4
# Long enough that there is always a call to be cut off.
LATENCY_SECONDS, JITTER_SECONDS = 0.15, 0.3

# Some that are free, some that are billed, and some that nobody knows the price of.  Every fifth call meets one.
FAULTS = ("503", "invalid_schema", "reset", "429;1", "malformed_body", "408", "drop_stream", "content_block")
EVERY = 5

_UNDER_WAY = "SELECT id FROM tasks WHERE status IN ('pending', 'processing')"
_OPEN = "SELECT DISTINCT task_id AS id FROM model_calls WHERE state = 'reserved' ORDER BY 1"
_BUDGETS = """
    SELECT id, spent_usd, reserved_usd, (
        SELECT coalesce(sum(cost_usd), 0) FROM model_calls
        WHERE budgets.id IN ('user:' || user_id, 'network:' || network_id, 'task:' || task_id)
    ) AS ledger_usd FROM budgets
"""


def scenario(fleet: Fleet, *, calls: int, kills: int) -> str:
    """Make so many calls at least, kill so many workers on the way, and compare; answers what there is to say."""
    workers = deque([fleet.worker(), fleet.worker()])
    network_id = fleet.network()
    for kind, subject_id in ((Kind.USER, LOCAL.user_id), (Kind.NETWORK, network_id)):
        fleet.mesh.budgets.put(ADMIN, kind, subject_id, limit_usd=PLENTY_USD, period="total")
    fleet.sandbox.latency(LATENCY_SECONDS, jitter=JITTER_SECONDS)
    for at, fault in enumerate(FAULTS, 1):
        fleet.sandbox.fault(fault, nth=list(range(at * EVERY, 2 * calls, len(FAULTS) * EVERY)))
    fleet.serving(*workers)
    for wave in count(1):
        for number in range(WAVE):
            fleet.submit(network_id, budget_usd=PLENTY_USD if number % 2 else None)
        eventually(lambda: fleet.sandbox.summary()["open"] >= UNDER_WAY, SECONDS, every=0.02)
        _cancel_one(fleet, network_id)
        if wave <= kills:
            fleet.kill(workers.popleft())
        if wave < kills:
            workers.append(fleet.worker())
        eventually(lambda: len(fleet.rows(_UNDER_WAY)) <= UNDER_WAY, SECONDS)
        if fleet.sandbox.summary()["calls"] >= calls:
            break
    eventually(lambda: not fleet.rows(_UNDER_WAY), SECONDS)
    eventually(lambda: not fleet.rows(_OPEN), SECONDS)
    seen, rows = fleet.sandbox.calls(), fleet.rows("SELECT * FROM model_calls")
    charged = assert_the_ledger_is_what_was_seen(seen, rows)
    assert_budgets_are_the_ledger(fleet)
    ended = Counter(row.status for row in fleet.rows("SELECT status FROM tasks"))
    return f"{len(seen)} calls, {dict(charged)}; tasks {dict(ended)}; {kills} workers killed"


def assert_the_ledger_is_what_was_seen(seen: Sequence[Mapping[str, Any]], rows: Sequence[Row[Any]]) -> Counter[str]:
    """Each call has one row: tokens and cost to the last digit, or an estimate of no less; answers how many of each."""
    sent = {call["call"]: call for call in seen}
    ledger = {row.id: row for row in rows}
    assert len(sent) == len(seen), "two requests under one number"
    assert sent.keys() <= ledger.keys(), "a request that nobody accounts for"
    bills = {row.id: bill(row, sent.get(row.id)) for row in rows}
    wrong = [(row.state, row.error_code, bills[row.id]) for row in rows if bills[row.id].startswith("wrong")]
    assert not wrong, wrong
    strays = [call for number, call in sent.items() if ledger[number].provider != call["provider"]]
    assert not strays, strays
    never_made = {row.error_code for row in rows if row.id not in sent}
    assert never_made <= {"worker_lost", "cancelled", "connection_failed"}, "a request that was never made is charged"
    assert {bills[row.id] for row in rows if row.state == "settled"} == {"exact"}, "a reply that is not billed exactly"
    charged = Counter(bills.values())
    assert min(charged[one] for one in ("exact", "estimated", "free")) > 0, "this run has shown nothing"
    return charged


def assert_budgets_are_the_ledger(fleet: Fleet) -> None:
    """What each budget has spent is the sum of its rows, and nothing is held any more."""
    budgets = fleet.rows(_BUDGETS)
    assert {row.id.partition(":")[0] for row in budgets} == {"user", "network", "task"}, "a budget is gone"
    wrong = [row for row in budgets if row.reserved_usd != 0 or row.spent_usd != row.ledger_usd]
    assert not wrong, wrong


def _cancel_one(fleet: Fleet, network_id: str) -> None:
    """Cancel a task that has a call open."""
    for task in fleet.rows(_OPEN):
        try:
            fleet.mesh.tasks.cancel(LOCAL, network_id, task.id)
        except ConflictError:
            continue  # it has just ended
        return
