"""Statistics: whatever is asked, the answer is what adding up the ledger by hand gives, to the last digit."""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from mesh.costs.rollup import Rollup
from mesh.costs.statistics import Statistics
from mesh.costs.views import CostView, DayCost, DayUsage, Query, UsageView
from mesh.db.unit_of_work import Database
from mesh.errors import ForbiddenError, InvalidPeriodError
from mesh.security.policy import RouteClass
from mesh.security.principal import Principal, Role, Scope
from mesh.testing import FakeClock
from tests.builders import NOW, add_network, principal
from tests.integration.costs.calls import Call, instant, made_up, store

HOURS = 80.3
ADMIN = principal("root", Role.ADMIN)
OF_DAY = {"start": NOW, "end": NOW + timedelta(days=1)}


def added_up(calls: Sequence[Call], of: Callable[[Call], str]) -> dict[str, Decimal]:
    costs: dict[str, Decimal] = defaultdict(Decimal)
    for call in calls:
        costs[of(call)] += call.cost_usd
    return dict(costs)


def assert_cost(view: CostView, calls: Sequence[Call]) -> None:
    assert view.total_cost == sum((call.cost_usd for call in calls), Decimal(0))
    assert view.per_model == added_up(calls, lambda call: call.model)
    assert view.per_user == added_up(calls, lambda call: call.user_id)
    assert view.per_network == added_up(calls, lambda call: call.network_id or "none")
    for parts in (view.per_model, view.per_user, view.per_network):
        assert sum(parts.values()) == view.total_cost
    assert {day.date.isoformat(): day.total_cost for day in view.series if day.total_cost} == {
        day: cost for day, cost in added_up(calls, lambda call: str(call.ended_at)[:10]).items() if cost
    }


def assert_usage(view: UsageView, calls: Sequence[Call]) -> None:
    settled = [call for call in calls if call.state == "settled"]
    assert (view.total_calls, view.successful_calls) == (len(calls), len(settled))
    assert view.failed_calls == view.total_calls - view.successful_calls
    assert view.per_model == Counter(call.model for call in calls)
    assert sum(view.per_model.values()) == view.total_calls
    latencies = defaultdict(list)
    for call in settled:
        latencies[call.model].append(call.latency_seconds or 0)
    assert view.average_latency == pytest.approx({name: sum(all_) / len(all_) for name, all_ in latencies.items()})
    assert sum(day.total_calls for day in view.series) == view.total_calls
    assert sum(day.failed_calls for day in view.series) == view.failed_calls


def asked(chance: random.Random, networks: Sequence[str]) -> Query:
    """A query for some period that is not empty, often with a filter."""
    start, end = sorted(instant(chance, NOW - timedelta(hours=1), HOURS + 3) for _ in range(2))
    return Query(
        start=start,
        end=max(end, start + timedelta(microseconds=1)),
        network_id=chance.choice([None, None, *networks]),
        model=chance.choice([None, None, "gpt-4o"]),
        daily=True,
    )


def test_every_period_adds_up_to_the_ledger_rolled_up_or_not(
    database: Database, statistics: Statistics, rollup: Rollup, clock: FakeClock
) -> None:
    """While the rollup is behind, in the middle of an hour, and after late commits; for every kind of caller."""
    chance = random.Random(1)
    with database.begin() as work:
        own, granted, foreign = networks = [add_network(work.connection, owner=name) for name in ("ann", "bob", "bob")]
    visible: dict[Principal, Callable[[Call], bool]] = {
        ADMIN: lambda _: True,
        principal("ann"): lambda call: call.user_id == "ann" or call.network_id == own,
        principal("mail.service", Role.SERVICE, granted): lambda call: (
            call.user_id == "mail.service" or call.network_id == granted
        ),
        principal("nobody"): lambda _: False,
    }
    ledger: list[Call] = []
    for hours_passed in (30.3, 45.0, 8.0):
        late = made_up(chance, start=NOW, hours=HOURS, count=200, networks=networks)
        store(database, late)
        ledger += late
        clock.advance(hours_passed * 3600)
        rollup.run()
        for caller, sees in visible.items():
            for _ in range(6):
                query = asked(chance, networks)
                if caller is ADMIN:
                    query = replace(query, user_id=chance.choice([None, "bob"]))
                expected = [call for call in ledger if sees(call) and call.within(query)]
                assert_cost(statistics.cost(caller, query), expected)
                assert_usage(statistics.usage(caller, query), expected)
    assert foreign in statistics.cost(ADMIN, Query()).per_network


def test_the_default_is_the_last_30_days_up_to_this_moment(
    database: Database, statistics: Statistics, rollup: Rollup, clock: FakeClock
) -> None:
    store(database, [Call(NOW - timedelta(days=31)), Call(NOW - timedelta(days=29)), Call(NOW)])
    clock.advance(0.2)
    for _ in range(2):
        view = statistics.cost(ADMIN, Query())
        assert view.total_cost == Decimal("0.002")
        assert view.time_period == "2025-12-02T00:00:00Z to 2026-01-01T00:00:01Z"
        rollup.run()
    assert statistics.cost(ADMIN, Query(end=NOW - timedelta(days=30))).total_cost == Decimal("0.001")


def test_a_call_counts_from_its_end_on(database: Database, statistics: Statistics) -> None:
    store(database, [Call(None, state="reserved", cost_usd=Decimal(0)), Call(NOW, state="cancelled")])
    assert statistics.usage(ADMIN, Query()).total_calls == 1


def test_calls_cut_off_or_refused_have_failed_and_cost_what_they_cost(
    database: Database, statistics: Statistics
) -> None:
    free = Call(NOW, model="gemini-2.0", state="failed", cost_usd=Decimal(0))
    store(database, [Call(NOW), Call(NOW, state="cancelled"), free])
    usage, cost = statistics.usage(ADMIN, Query()), statistics.cost(ADMIN, Query())
    assert (usage.total_calls, usage.successful_calls, usage.failed_calls) == (3, 1, 2)
    assert usage.per_model == {"gpt-4o": 2, "gemini-2.0": 1}
    assert usage.average_latency == {"gpt-4o": 0.5}
    assert cost.per_model == {"gpt-4o": Decimal("0.002"), "gemini-2.0": 0}


def test_a_series_has_every_day_of_the_period(database: Database, statistics: Statistics) -> None:
    store(database, [Call(NOW), Call(NOW + timedelta(days=2), state="failed")])
    query = Query(start=NOW - timedelta(hours=1), end=NOW + timedelta(days=2, hours=1), daily=True)
    days = [date(2025, 12, 31), date(2026, 1, 1), date(2026, 1, 2), date(2026, 1, 3)]
    costs = [Decimal(0), Decimal("0.001"), Decimal(0), Decimal("0.001")]
    assert statistics.cost(ADMIN, query).series == [DayCost(*each) for each in zip(days, costs, strict=True)]
    calls = [(0, 0, 0), (1, 1, 0), (0, 0, 0), (1, 0, 1)]
    assert statistics.usage(ADMIN, query).series == [
        DayUsage(day, *each) for day, each in zip(days, calls, strict=True)
    ]


def test_only_administrators_ask_for_others(database: Database, statistics: Statistics) -> None:
    store(database, [Call(NOW, "ann"), Call(NOW, "bob")])
    weak = Principal("root", Role.ADMIN, frozenset({Scope.READ}))
    for caller in (principal("ann"), weak):
        with pytest.raises(ForbiddenError):
            statistics.cost(caller, Query(user_id="bob"))
        with pytest.raises(ForbiddenError):
            statistics.usage(caller, Query(user_id="bob"))
    assert statistics.cost(principal("ann"), Query(user_id="ann")).per_user == {"ann": Decimal("0.001")}
    assert statistics.cost(ADMIN, Query(user_id="bob")).per_user == {"bob": Decimal("0.001")}
    assert statistics.cost(weak, Query()).per_user == {}


def test_requests_are_counted_by_class_hour_and_user(statistics: Statistics, clock: FakeClock) -> None:
    clock.advance(10_000)
    counts = {
        (NOW, "ann", RouteClass.READ): 3,
        (NOW, "bob", RouteClass.READ): 1,
        (NOW, "ann", RouteClass.GENERATE): 2,
        (NOW - timedelta(days=40), "ann", RouteClass.READ): 100,
    }
    for _ in range(2):
        statistics.add_requests(counts)
    assert statistics.usage(principal("ann"), Query()).api_calls == {"read": 6, "write": 0, "generate": 4}
    assert statistics.usage(ADMIN, Query()).api_calls["read"] == 8
    assert statistics.usage(ADMIN, Query(user_id="bob")).api_calls["read"] == 2


@pytest.mark.parametrize(
    "query",
    [
        Query(start=NOW, end=NOW),
        Query(start=NOW + timedelta(hours=1), end=NOW),
        Query(start=NOW + timedelta(days=1)),
        Query(end=datetime(1, 1, 1, tzinfo=UTC)),
        Query(start=datetime(1, 1, 1, tzinfo=UTC), daily=True),
    ],
)
def test_a_period_that_cannot_be_answered_is_refused(statistics: Statistics, query: Query) -> None:
    for ask in (statistics.cost, statistics.usage):
        with pytest.raises(InvalidPeriodError):
            ask(ADMIN, query)


def test_the_widest_period_is_answered(database: Database, statistics: Statistics, rollup: Rollup) -> None:
    store(database, [Call(NOW - timedelta(days=1)), Call(NOW)])
    rollup.run()
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    assert statistics.cost(ADMIN, Query(first, last)).total_cost == Decimal("0.002")
    assert statistics.cost(ADMIN, Query(last - timedelta(minutes=1), last)).total_cost == 0
