"""A ledger of made-up calls, and what statistics must say about it, added up call by call."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import insert

from mesh.costs.views import Query
from mesh.db.tables import model_calls
from mesh.db.unit_of_work import Database
from mesh.ids import new_id


@dataclass(frozen=True)
class Call:
    """A row of the ledger; `ended_at` None: still under way."""

    ended_at: datetime | None
    user_id: str = "ann"
    network_id: str | None = None
    model: str = "gpt-4o"
    state: str = "settled"
    cost_usd: Decimal = Decimal("0.001")
    latency_seconds: float | None = 0.5
    key_id: str | None = None
    agent_type: str | None = "content"

    def within(self, query: Query) -> bool:
        """Whether `query`, which has a period, is about it."""
        assert query.start
        assert query.end
        return (
            self.ended_at is not None
            and query.start <= self.ended_at < query.end
            and query.network_id in (None, self.network_id)
            and query.model in (None, self.model)
            and query.user_id in (None, self.user_id)
        )


def store(database: Database, calls: Sequence[Call]) -> None:
    """Write `calls` to the ledger, as if each had ended in its own transaction."""
    common: dict[str, Any] = {"attempt": 1, "provider": "openai", "reserved_usd": 1, "estimated": False}
    common |= {"prompt_tokens": 100, "completion_tokens": 10, "cached_tokens": 1, "reasoning_tokens": 2}
    common |= {"unpriced": False, "sandbox": False}
    rows = [
        vars(call) | common | {"id": new_id("call"), "created_at": call.ended_at or datetime(2026, 1, 1)}  # noqa: DTZ001  # any
        for call in calls
    ]
    with database.begin() as work:
        work.connection.execute(insert(model_calls), rows)


def made_up(chance: random.Random, *, start: datetime, hours: float, count: int, networks: Sequence[str]) -> list[Call]:
    """Calls of all kinds, many at the very beginning and end of hours, with costs of many digits."""
    return [_made_up(chance, start, hours, networks) for _ in range(count)]


def instant(chance: random.Random, start: datetime, hours: float) -> datetime:
    """An instant within `hours` of `start`: anywhere, a full hour, or a microsecond beside one."""
    anywhere = start + timedelta(hours=hours) * chance.random()
    full = anywhere.replace(minute=0, second=0, microsecond=0)
    return chance.choice([anywhere, full, full + timedelta(microseconds=chance.choice([-1, 1]))])


def _made_up(chance: random.Random, start: datetime, hours: float, networks: Sequence[str]) -> Call:
    state = chance.choice(["settled"] * 6 + ["failed", "cancelled", "reserved"])
    return Call(
        ended_at=None if state == "reserved" else instant(chance, start, hours),
        user_id=chance.choice(["ann", "bob", "mail.service"]),
        network_id=chance.choice([*networks, None]),
        model=chance.choice(["gpt-4o", "claude-3-7-sonnet"]),
        state=state,
        cost_usd=Decimal(chance.choice([0, chance.randrange(10**15)])).scaleb(-chance.randrange(9, 18)),
        latency_seconds=chance.choice([chance.random(), None]) if state != "settled" else chance.random(),
        key_id=chance.choice(["key_1", None]),
        agent_type=chance.choice(["content", "coordinator", None]),
    )
