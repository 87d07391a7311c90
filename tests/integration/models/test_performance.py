"""Performance: what the ledger says of each model, rolled up or not, and how fast it is forgotten."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest

from mesh.costs.rollup import Rollup
from mesh.db import engine as engines
from mesh.db.unit_of_work import Database, UnitOfWork
from mesh.errors import UnavailableError
from mesh.models.performance import EXCUSED, PRIOR_SUCCESS_RATE, Performance
from mesh.testing import FakeClock
from tests.builders import MODELS
from tests.integration.costs.calls import Call, made_up, store

GPT = MODELS.resolve("gpt-4o")
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Ended(Call):
    error_code: str | None = None


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    engine = engines.create(database_url, name="test")
    yield Database(engine)
    engine.dispose()


@pytest.fixture
def performance(database: Database, clock: FakeClock) -> Performance:
    return Performance(database, clock)


def failures(at: datetime, *codes: str) -> list[Ended]:
    return [Ended(at, state="failed", error_code=code) for code in codes]


def test_calls_count_by_model_and_by_agent_type(performance: Performance, database: Database, clock: FakeClock) -> None:
    at = clock() - timedelta(minutes=1)
    good = [Ended(at, latency_seconds=2) for _ in range(30)]
    bad = [Ended(at, agent_type="coordinator", state="failed", error_code="timeout") for _ in range(10)]
    store(database, [*good, *bad])
    performance.refresh()
    record = performance.record("gpt-4o")
    assert record.success_rate == pytest.approx(0.75)
    assert record.latency_seconds == pytest.approx(2)
    content, coordinator = (performance.expect(GPT, kind) for kind in ("content", "coordinator"))
    assert content.success_rate > performance.expect(GPT, None).success_rate > 0.5 > coordinator.success_rate
    assert content.latency_seconds < performance.expect(GPT, None).latency_seconds + 1 < 12


def test_without_calls_a_model_is_expected_to_be_like_its_tier(performance: Performance) -> None:
    assert performance.expect(GPT, "content").success_rate == pytest.approx(PRIOR_SUCCESS_RATE)
    assert performance.expect(GPT, None).latency_seconds == pytest.approx(12)
    assert performance.record("gpt-4o").success_rate is None


@pytest.mark.parametrize("minutes", [1, 100])
def test_failures_that_are_not_the_models_own_do_not_count(
    minutes: int, performance: Performance, database: Database, clock: FakeClock
) -> None:
    """Neither before they are rolled up, nor after, when their sums no longer tell them apart."""
    at = clock() - timedelta(minutes=minutes)
    store(database, [Ended(at), Ended(at, state="cancelled"), *failures(at, *EXCUSED, "rate_limited")])
    assert Rollup(database, clock).run() == (0 if minutes == 1 else 3 + len(EXCUSED))
    performance.refresh()
    assert performance.record("gpt-4o").success_rate == pytest.approx(0.5)


def test_an_hours_calls_weigh_half_after_three(performance: Performance, database: Database, clock: FakeClock) -> None:
    start = clock()
    store(database, [*failures(start, "timeout"), Ended(start + 3 * HOUR)])
    clock.advance(3 * 3600)
    performance.refresh()
    assert performance.record("gpt-4o").success_rate == pytest.approx(1 / 1.5, abs=0.05)


def test_only_the_last_quarter_of_an_hour_tells_who_is_asked_first(
    performance: Performance, database: Database, clock: FakeClock
) -> None:
    """A model that was dead, and that nobody asks since, is expected to work again; all else remembers for longer."""
    store(database, [*failures(clock(), *["timeout"] * 25), *failures(clock(), *["not_authorized"] * 25)])
    clock.advance(14 * 60)
    Rollup(database, clock).run()
    performance.refresh()
    assert performance.success_lately(GPT, "content") == pytest.approx(5 * (5 * 0.95 / 30) / 30, abs=0.001)
    clock.advance(2 * 60)
    performance.refresh()
    assert performance.success_lately(GPT, "content") == PRIOR_SUCCESS_RATE
    assert performance.expect(GPT, "content").success_rate < 0.1


def by_hand(calls: Sequence[Call], now: datetime) -> dict[str, tuple[float, float]]:
    """Settled calls and their seconds by model, each call weighed by its hour."""
    found: dict[str, tuple[float, float]] = {}
    for call in calls:
        if call.ended_at and call.state == "settled":
            middle = call.ended_at.replace(minute=30, second=0, microsecond=0)
            weight = 0.5 ** (max((now - middle) / HOUR, 0) / 3)
            count, seconds = found.get(call.model, (0.0, 0.0))
            found[call.model] = (count + weight, seconds + weight * (call.latency_seconds or 0))
    return found


def test_reading_only_what_is_new_comes_to_the_same_as_reading_all(
    performance: Performance, database: Database, clock: FakeClock
) -> None:
    """Whatever was rolled up in between."""
    chance = random.Random(7)
    calls: list[Call] = []
    for minutes in (1, 10, 70, 45, 200, 5):
        fresh = made_up(chance, start=clock(), hours=minutes / 60, count=40, networks=["n"])
        clock.advance(60 * minutes + 1)
        store(database, fresh)
        calls += fresh
        if chance.random() < 0.7:
            Rollup(database, clock).run()
        performance.refresh()
        for model, (settled, seconds) in by_hand(calls, clock()).items():
            record = performance.record(model)
            assert [record.settled, record.seconds] == pytest.approx([settled, seconds])


def test_the_ledger_is_read_at_most_every_half_minute(
    performance: Performance, database: Database, clock: FakeClock
) -> None:
    performance.refresh()
    store(database, [Ended(clock())])
    clock.advance(29)
    performance.refresh()
    assert performance.record("gpt-4o").success_rate is None
    clock.advance(1)
    performance.refresh()
    assert performance.record("gpt-4o").success_rate == 1


class Moody(Database):
    """A database that does not answer while it is `away`."""

    away = False

    @contextmanager
    def begin(self, *, atomic: bool = True, within: UnitOfWork | None = None) -> Iterator[UnitOfWork]:
        if self.away:
            raise UnavailableError("Away.")
        with super().begin(atomic=atomic, within=within) as work:
            yield work


def test_while_the_database_is_away_what_is_known_stands(database: Database, clock: FakeClock) -> None:
    moody = Moody(database.engine)
    performance = Performance(moody, clock)
    store(database, [Ended(clock())])
    performance.refresh()
    for away, rate in ((True, 1), (False, 0.5)):
        moody.away = away
        if not away:
            store(database, failures(clock(), "timeout"))
        clock.advance(30)
        performance.refresh()
        assert performance.record("gpt-4o").success_rate == pytest.approx(rate, abs=0.01)
