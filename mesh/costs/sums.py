"""The SQL of statistics: every call of a period exactly once, and sums over them.

mesh.costs.statistics -> here.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Column,
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
    tuple_,
    union_all,
)

from mesh.costs.periods import Period
from mesh.costs.views import Query
from mesh.db.tables import model_calls, networks, usage_daily, usage_hourly
from mesh.db.tables.base import Texts
from mesh.security.access import accessible
from mesh.security.principal import Principal


def calls_of(principal: Principal, query: Query, asked: Period) -> Subquery:
    """Every call of the period exactly once, by itself or within its hour's sums."""
    ended_at = model_calls.c.ended_at
    # ix_model_calls_open_books
    parts = [_of_ledger(not_(model_calls.c.rolled), ended_at >= asked.start, ended_at < asked.end)]
    # ix_model_calls_ended_at
    parts += [_of_ledger(model_calls.c.rolled, ended_at >= start, ended_at < end) for start, end in asked.edges]
    visible = [part.where(_visible(model_calls, principal, query)) for part in parts]
    # The primary key and ix_usage_..._network_id_...; for administrators ix_usage_hourly_hour, ix_usage_daily_day.
    for at, spans in ((usage_hourly.c.hour, asked.hours), (usage_daily.c.day, asked.days)):
        sums = _of_sums(at).where(_visible(at.table, principal, query))
        visible += [sums.where(at >= start, at < end) for start, end in spans]
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


def _of_sums(at: Column[datetime]) -> Select[Any]:
    row = at.table.c
    ended = row.settled + row.failed + row.cancelled
    sums = (row.settled, ended.label("ended"), row.cost_usd, row.latency_seconds.label("latency"))
    return select(row.model, row.user_id, row.network_id, at.label("at"), *sums)


def _visible(table: FromClause, principal: Principal, query: Query) -> ColumnElement[bool]:
    asked = {"network_id": query.network_id, "model": query.model, "user_id": query.user_id}
    conditions = [table.c[name] == value for name, value in asked.items() if value is not None]
    if not principal.is_admin:
        theirs = func.array(select(networks.c.id).where(accessible(principal)).scalar_subquery(), type_=Texts)
        conditions.append(or_(table.c.user_id == principal.user_id, table.c.network_id == any_(theirs)))
    return and_(True, *conditions)


def by_dimension(calls: Subquery, dimensions: Sequence[str]) -> Select[Any]:
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
