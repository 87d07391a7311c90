"""Statistics: what calls cost and how they went, in any period, to the last digit of the ledger.

api.resources.stats -> here.  Whole days come from `usage_daily`, whole hours beside them from `usage_hourly`; what the
rollup has not reached, and the parts of hours at the period's ends, from the ledger: one statement, so one snapshot, in
which every call is found exactly once.
A call belongs to the instant of its end; one that is still under way belongs to none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import func, select, text

from mesh.clock import Clock
from mesh.costs.periods import Period, hour_of, period
from mesh.costs.sums import by_dimension, calls_of
from mesh.costs.views import NO_NETWORK, CostView, DayCost, DayUsage, Query, UsageView
from mesh.db.tables import requests_hourly
from mesh.db.unit_of_work import Database
from mesh.errors import ForbiddenError
from mesh.security.policy import RouteClass
from mesh.security.principal import Principal

RequestCounts = Mapping[tuple[datetime, str, RouteClass], int]


@dataclass(frozen=True, slots=True)
class _Sums:
    settled: int = 0
    ended: int = 0
    cost_usd: Decimal = Decimal(0)
    latency_seconds: float = 0.0


class Statistics:
    """Sums over calls and requests."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def cost(self, principal: Principal, query: Query) -> CostView:
        """What the calls that `principal` may see have cost: its own, those in its networks, all for administrators.

        Raises:
            ForbiddenError: another user is asked for, and `principal` is no administrator.
            InvalidPeriodError: the period ends before it begins, or has too many days for a series.
        """
        asked = self._period(principal, query)
        found = self._sums(principal, query, asked, ("model", "user_id", "network_id"))
        return CostView(
            total_cost=found[None, None].cost_usd,
            per_model=_costs(found, "model"),
            per_user=_costs(found, "user_id"),
            per_network=_costs(found, "network_id"),
            time_period=str(asked),
            series=[DayCost(day, found.get(("day", day), _Sums()).cost_usd) for day in _days(query, asked)],
        )

    def usage(self, principal: Principal, query: Query) -> UsageView:
        """How many calls there were and how they went; as `cost` otherwise."""
        asked = self._period(principal, query)
        found = self._sums(principal, query, asked, ("model",))
        models = {str(name): sums for (kind, name), sums in found.items() if kind == "model"}
        total = found[None, None]
        return UsageView(
            total_calls=total.ended,
            successful_calls=total.settled,
            failed_calls=total.ended - total.settled,
            per_model={name: sums.ended for name, sums in models.items()},
            average_latency={
                name: sums.latency_seconds / sums.settled for name, sums in models.items() if sums.settled
            },
            api_calls=self._requests(principal, query, asked),
            time_period=str(asked),
            series=[_day_usage(day, found.get(("day", day), _Sums())) for day in _days(query, asked)],
        )

    def add_requests(self, counts: RequestCounts) -> None:
        """Add to the requests by hour, user and route class.

        Raises:
            UnavailableError: the database does not answer.
            ContentionError: the database undid it.
        """
        rows = [(*key, count) for key, count in counts.items()]
        hours, users, classes, numbers = zip(*rows, strict=True)
        values = {"hours": list(hours), "users": list(users), "classes": list(classes), "numbers": list(numbers)}
        with self._database.begin(atomic=False) as work:
            work.connection.execute(_ADD_REQUESTS, values)

    def _period(self, principal: Principal, query: Query) -> Period:
        if query.user_id not in (None, principal.user_id) and not principal.is_admin:
            raise ForbiddenError("Only administrators may ask for other users.")
        return period(query.start, query.end, now=self._clock(), daily=query.daily)

    def _sums(
        self, principal: Principal, query: Query, asked: Period, dimensions: Sequence[str]
    ) -> dict[tuple[str | None, Any], _Sums]:
        """The sums by (dimension, value), and over all by (None, None)."""
        statement = by_dimension(calls_of(principal, query, asked), [*dimensions, *(["day"] if query.daily else [])])
        with self._database.begin(atomic=False) as work:
            rows = work.connection.execute(statement).mappings().all()
        return {
            next(((key, row[key]) for key in (*dimensions, "day") if row.get(key) is not None), (None, None)): _Sums(
                int(row["settled"] or 0), int(row["ended"] or 0), row["cost_usd"] or Decimal(0), row["latency"] or 0.0
            )
            for row in rows
        }

    def _requests(self, principal: Principal, query: Query, asked: Period) -> dict[str, int]:
        table = requests_hourly.c
        # Its primary key begins with the user; for administrators it is read whole: a few rows an hour and user.
        counted = select(table.route_class, func.sum(table.requests)).group_by(table.route_class)
        counted = counted.where(table.hour >= hour_of(asked.start), table.hour < asked.end)
        if user_id := query.user_id or (None if principal.is_admin else principal.user_id):
            counted = counted.where(table.user_id == user_id)
        with self._database.begin(atomic=False) as work:
            found = {kind: int(number) for kind, number in work.connection.execute(counted)}
        return {kind.value: found.get(kind, 0) for kind in RouteClass}


_ADD_REQUESTS = text(
    """
    INSERT INTO requests_hourly (hour, user_id, route_class, requests)
    SELECT * FROM unnest(CAST(:hours AS timestamptz[]), CAST(:users AS text[]),
                         CAST(:classes AS text[]), CAST(:numbers AS bigint[])) AS given (hour, user_id, route_class, n)
    ORDER BY user_id, hour, route_class
    ON CONFLICT (user_id, hour, route_class) DO UPDATE SET requests = requests_hourly.requests + excluded.requests
    """
)


def _costs(found: Mapping[tuple[str | None, Any], _Sums], dimension: str) -> dict[str, Decimal]:
    return {(name or NO_NETWORK): sums.cost_usd for (kind, name), sums in found.items() if kind == dimension}


def _days(query: Query, asked: Period) -> list[date]:
    return asked.dates if query.daily else []


def _day_usage(day: date, sums: _Sums) -> DayUsage:
    return DayUsage(day, sums.ended, sums.settled, sums.ended - sums.settled)
