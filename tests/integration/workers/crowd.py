"""Sixty-four tasks at once against a budget for ten: never a cent over it, and what it pays for gets done."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal

from mesh.costs.budgets import Kind
from mesh.security.principal import LOCAL, Role
from tests.builders import principal
from tests.integration.workers.conftest import Fleet
from tests.system import eventually

ADMIN = principal("root", Role.ADMIN)
TASKS, COVERED, EXPECTED = 64, 10, 9
NAME = f"user:{LOCAL.user_id}"
SECONDS = 180.0
LEAST_LOOKS = 100

_STATUSES = "SELECT status, count(*) AS tasks FROM tasks GROUP BY status"
_BUDGET = "SELECT limit_usd, spent_usd, reserved_usd FROM budgets WHERE id = :id"
# Completed before the first pause.
_BEFORE = """
    SELECT count(*) AS tasks FROM tasks WHERE status = 'completed'
        AND finished_at < coalesce((SELECT min(created_at) FROM events WHERE type = 'paused'), 'infinity')
"""


@dataclass
class Watch:
    """How often a budget was looked at, and when it was found to be passed."""

    looks: int = 0
    over: list[str] = field(default_factory=list)


def scenario(fleet: Fleet, *, thorough: bool) -> None:
    """Run it; `thorough` has a worker killed where money is short, and not only where there is enough."""
    first, second = fleet.worker(slots=8), fleet.worker(slots=8)
    fleet.serving(first, second)
    network_id = fleet.network()
    fleet.ended(network_id, fleet.submit(network_id))
    price = fleet.rows("SELECT sum(cost_usd) AS usd FROM model_calls")[0].usd
    _limit(fleet, (1 + COVERED) * price)
    with watching(fleet) as watch:
        for _ in range(TASKS):
            fleet.submit(network_id)
        eventually(lambda: _settled(fleet), SECONDS, every=0.2)
        done = _tasks(fleet, "completed") - 1
        before = fleet.rows(_BEFORE)[0].tasks - 1
        assert before >= EXPECTED, f"{before} of {done} completed before anything paused"
        assert _tasks(fleet, "paused") == TASKS - done
        # What the killed worker had under way is charged in full.
        _limit(fleet, (2 + done + 2 * COVERED) * price if thorough else Decimal(1000))
        eventually(lambda: _tasks(fleet, "completed") > done + 2, SECONDS, every=0.05)
        fleet.kill(first)
        eventually(lambda: _settled(fleet), SECONDS, every=0.2)
    assert not watch.over, watch.over[:3]
    assert watch.looks > LEAST_LOOKS
    _limit(fleet, Decimal(1000))
    eventually(lambda: _tasks(fleet, "completed") == TASKS + 1, SECONDS, every=0.2)
    assert fleet.rows(_BUDGET, id=NAME)[0].reserved_usd == 0
    [row] = fleet.rows("SELECT sum(cost_usd) AS usd FROM model_calls")
    assert fleet.rows(_BUDGET, id=NAME)[0].spent_usd == row.usd


@contextmanager
def watching(fleet: Fleet) -> Iterator[Watch]:
    """Look at the budget all the while, and at the ledger itself."""
    watch, done = Watch(), threading.Event()

    def look() -> None:
        while not done.wait(0.02):
            [row] = fleet.rows(_BUDGET, id=NAME)
            watch.looks += 1
            if row.spent_usd + row.reserved_usd > row.limit_usd:
                watch.over.append(f"{row.spent_usd} + {row.reserved_usd} > {row.limit_usd}")

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield watch
    finally:
        done.set()
        thread.join()


def _limit(fleet: Fleet, usd: Decimal) -> None:
    fleet.mesh.budgets.put(ADMIN, Kind.USER, LOCAL.user_id, limit_usd=usd, period="total")


def _tasks(fleet: Fleet, status: str) -> int:
    return {row.status: int(row.tasks) for row in fleet.rows(_STATUSES)}.get(status, 0)


def _settled(fleet: Fleet) -> bool:
    return _tasks(fleet, "processing") == 0
