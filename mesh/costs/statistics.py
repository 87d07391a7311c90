"""Statistics: what calls cost and how they went, in any period, to the last digit of the ledger.

api.resources.stats -> here.  Closed hours come from `usage_hourly`; what the rollup has not reached, and the parts of
hours at the period's ends, from the ledger: one statement, so one snapshot, in which every call is found exactly once.
A call belongs to the instant of its end; one that is still under way belongs to none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Date,
    FromClause,
    Integer,
    Select,
    Subquery,
    and_,
    any_,
    case,
    cast,
    func,
    not_,
    or_,
    select,
    text,
    tuple_,
    union_all,
)

from mesh.clock import Clock
from mesh.costs.periods import Period, hour_of, period
from mesh.db.tables import model_calls, networks, requests_hourly, usage_hourly
from mesh.db.tables.base import Texts
from mesh.db.unit_of_work import Database
from mesh.errors import ForbiddenError
from mesh.security.access import accessible
from mesh.security.policy import RouteClass
from mesh.security.principal import Principal

# In place of a network's id: direct generation may be without one.
NO_NETWORK = "none"

RequestCounts = Mapping[tuple[datetime, str, RouteClass], int]


@dataclass(frozen=True, slots=True)
class Query:
    """Which calls: those that ended from `start` on and before `end`, of all or of one network, model, user."""

    start: datetime | None = None
    end: datetime | None = None
    network_id: str | None = None
    model: str | None = None
    user_id: str | None = None
    daily: bool = False


@dataclass(frozen=True, slots=True)
class DayCost:
    """What the calls of a day (UTC) cost, in US dollars."""

    date: date
    total_cost: Decimal


@dataclass(frozen=True, slots=True)
class CostView:
    """Costs in US dollars; whoever and whatever had a call has an entry, were it 0.  No `series` unless asked for."""

    total_cost: Decimal
    per_model: dict[str, Decimal]
    per_user: dict[str, Decimal]
    per_network: dict[str, Decimal]
    time_period: str
    series: list[DayCost]


@dataclass(frozen=True, slots=True)
class DayUsage:
    """How the calls of a day (UTC) went."""

    date: date
    total_calls: int
    successful_calls: int
    failed_calls: int


@dataclass(frozen=True, slots=True)
class UsageView:
    """Calls of models; a call that was cut off counts as failed.  Latency in seconds, the mean of successful calls.

    `api_calls` are the requests of the same users by route class, by whole hours, whatever network or model.
    """

    total_calls: int
    successful_calls: int
    failed_calls: int
    per_model: dict[str, int]
    average_latency: dict[str, float]
    api_calls: dict[str, int]
    time_period: str
    series: list[DayUsage]


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
        statement = _by_dimension(_calls(principal, query, asked), [*dimensions, *(["day"] if query.daily else [])])
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


def _calls(principal: Principal, query: Query, asked: Period) -> Subquery:
    """Every call of the period exactly once, by itself or within its hour's sums."""
    ended_at = model_calls.c.ended_at
    # ix_model_calls_open_books
    parts = [_of_ledger(not_(model_calls.c.rolled), ended_at >= asked.start, ended_at < asked.end)]
    # ix_model_calls_ended_at
    parts += [_of_ledger(model_calls.c.rolled, ended_at >= start, ended_at < end) for start, end in asked.edges]
    visible = [part.where(_visible(model_calls, principal, query)) for part in parts]
    if asked.hours:
        start, end = asked.hours
        # The primary key and ix_usage_hourly_network_id_hour; for administrators ix_usage_hourly_hour.
        hours = _of_hours(usage_hourly.c.hour >= start, usage_hourly.c.hour < end)
        visible.append(hours.where(_visible(usage_hourly, principal, query)))
    return union_all(*visible).subquery("calls")


def _of_ledger(*which: ColumnElement[bool]) -> Select[Any]:
    call = model_calls.c
    settled = call.state == "settled"
    return select(
        call.model,
        call.user_id,
        func.coalesce(call.network_id, "").label("network_id"),
        call.ended_at.label("at"),
        cast(settled, Integer).label("settled"),
        cast(1, Integer).label("ended"),
        call.cost_usd,
        case((settled, call.latency_seconds), else_=0.0).label("latency"),
    ).where(*which)


def _of_hours(*which: ColumnElement[bool]) -> Select[Any]:
    hour = usage_hourly.c
    ended = hour.settled + hour.failed + hour.cancelled
    latency = hour.latency_seconds.label("latency")
    sums = (hour.settled, ended.label("ended"), hour.cost_usd, latency)
    return select(hour.model, hour.user_id, hour.network_id, hour.hour.label("at"), *sums).where(*which)


def _visible(table: FromClause, principal: Principal, query: Query) -> ColumnElement[bool]:
    asked = {"network_id": query.network_id, "model": query.model, "user_id": query.user_id}
    conditions = [table.c[name] == value for name, value in asked.items() if value is not None]
    if not principal.is_admin:
        theirs = func.array(select(networks.c.id).where(accessible(principal)).scalar_subquery(), type_=Texts)
        conditions.append(or_(table.c.user_id == principal.user_id, table.c.network_id == any_(theirs)))
    return and_(True, *conditions)


def _by_dimension(calls: Subquery, dimensions: Sequence[str]) -> Select[Any]:
    """The sums over all of `calls`, and for every value of each of `dimensions`.

    All of them together come first, which leaves few rows for the rest.
    """
    columns = {**calls.c, "day": cast(func.timezone("UTC", calls.c.at), Date).label("day")}
    groups = [columns[name] for name in dimensions]
    together = select(*groups, *_summed(calls)).group_by(*groups).subquery("together")
    groups = [together.c[name] for name in dimensions]
    sets = func.grouping_sets(tuple_(), *[tuple_(group) for group in groups])
    return select(*groups, *_summed(together)).group_by(sets)


def _summed(source: Subquery) -> list[ColumnElement[Any]]:
    return [func.sum(source.c[name]).label(name) for name in ("settled", "ended", "cost_usd", "latency")]


def _costs(found: Mapping[tuple[str | None, Any], _Sums], dimension: str) -> dict[str, Decimal]:
    return {(name or NO_NETWORK): sums.cost_usd for (kind, name), sums in found.items() if kind == dimension}


def _days(query: Query, asked: Period) -> list[date]:
    return asked.days if query.daily else []


def _day_usage(day: date, sums: _Sums) -> DayUsage:
    return DayUsage(day, sums.ended, sums.settled, sums.ended - sums.settled)
