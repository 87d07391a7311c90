"""Budgets for callers: set, read and remove the limits of users, networks, keys and tasks.

api.resources.budgets -> here; `mesh.costs.accounts` is what calls do with them.  A budget that is set while calls are
made counts those first: until every statement that began before it has ended, nothing is opened under it.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal

from sqlalchemy import Connection, Row, TextClause, delete, select, text

from mesh.clock import Clock
from mesh.costs.accounts import PRESENT, SPENT
from mesh.db.tables import api_keys, budgets, networks, tasks
from mesh.db.unit_of_work import Database
from mesh.errors import ForbiddenError, NotFoundError
from mesh.security.access import accessible, require
from mesh.security.principal import Principal

Period = Literal["total", "day", "month"]


class Kind(StrEnum):
    """Whose spending a budget limits."""

    USER = "user"
    NETWORK = "network"
    KEY = "key"
    TASK = "task"


@dataclass(frozen=True)
class BudgetView:
    """A budget as it stands, in US dollars; `resets_at` is when its period ends (None: `total`)."""

    limit_usd: Decimal
    period: Period
    spent_usd: Decimal
    reserved_usd: Decimal
    resets_at: datetime | None


# A new period is another sum, so it is counted anew; a new limit is not.
_PUT = text(
    """
    INSERT INTO budgets (id, kind, subject_id, limit_usd, period, spent_usd, reserved_usd, counted,
                         created_at, updated_at)
    VALUES (:kind || ':' || :subject_id, :kind, :subject_id, :limit_usd, :period, 0, 0, :counted, :now, :now)
    ON CONFLICT (id) DO UPDATE SET
        limit_usd = excluded.limit_usd, period = excluded.period, updated_at = excluded.updated_at,
        counted = budgets.counted AND budgets.period = excluded.period,
        known_from = CASE WHEN budgets.period = excluded.period THEN budgets.known_from END
    """
)

_GET = text(
    f"""
    SELECT limit_usd, period, {SPENT} AS spent_usd, reserved_usd,
        CASE WHEN period <> 'total' THEN {PRESENT} + CAST('1 ' || period AS interval) END AS resets_at
    FROM budgets WHERE id = :id
    """  # noqa: S608  # built from constants of ours
)

# ix_budgets_uncounted, all three.  The budget is committed by now: whoever begins from here on knows of it.
_STAMP = text(
    """
    UPDATE budgets SET known_from = CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS bigint)
    WHERE NOT counted AND known_from IS NULL
    """
)

# Transactions and statements of ours that began before may not know of it: none lasts longer than `statement_timeout`
# and `idle_in_transaction_session_timeout` (mesh.db.engine).
_COUNTABLE = text(
    """
    SELECT id, kind, subject_id FROM budgets
    WHERE NOT counted AND known_from IS NOT NULL
      AND NOT EXISTS (
          SELECT FROM pg_stat_activity
          WHERE datname = current_database() AND application_name LIKE 'mesh%' AND pid <> pg_backend_pid()
            AND (age(backend_xid) > age(CAST(CAST(CAST(known_from AS text) AS xid8) AS xid))
                 OR age(backend_xmin) >= age(CAST(CAST(CAST(known_from AS text) AS xid8) AS xid))))
    ORDER BY id
    """
)

_UNCOUNTED = text("SELECT true FROM budgets WHERE id = :id AND NOT counted FOR UPDATE SKIP LOCKED")


class Budgets:
    """Everything that callers do with budgets.  Users' and keys' are the administrators'."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def put(
        self, principal: Principal, kind: Kind, subject_id: str, *, limit_usd: Decimal, period: Period
    ) -> BudgetView:
        """Set a limit, or another one; tasks that paused for it go on within seconds if there is room now.

        Raises:
            ForbiddenError: users' and keys' budgets are for administrators.
            NotFoundError: there is no such thing, or it is not the principal's.
        """
        now = self._clock()
        with self._database.begin() as work:
            _check(work.connection, principal, kind, subject_id, changes=True)
            limit(work.connection, kind, subject_id, limit_usd, period=period, counted=False, now=now)
        count(self._database, now=now)
        with self._database.begin() as work:
            return _view(work.connection, kind, subject_id, now)

    def get(self, principal: Principal, kind: Kind, subject_id: str) -> BudgetView:
        """A budget as it stands; users see their own.

        Raises:
            NotFoundError: there is none, or it is not the principal's.
        """
        with self._database.begin() as work:
            _check(work.connection, principal, kind, subject_id, changes=False)
            return _view(work.connection, kind, subject_id, self._clock())

    def remove(self, principal: Principal, kind: Kind, subject_id: str) -> None:
        """Lift a limit.

        Raises:
            As `put`; NotFoundError also when there is no budget.
        """
        with self._database.begin() as work:
            _check(work.connection, principal, kind, subject_id, changes=True)
            gone = work.connection.execute(delete(budgets).where(budgets.c.id == f"{kind}:{subject_id}"))
            if not gone.rowcount:
                raise _no_budget(kind, subject_id)


def limit(
    connection: Connection,
    kind: Kind,
    subject_id: str,
    limit_usd: Decimal,
    *,
    now: datetime,
    period: Period = "total",
    counted: bool = True,
) -> None:
    """Set a limit within the caller's transaction; `counted` for something new, which cannot have spent anything."""
    values = {"kind": kind, "subject_id": subject_id, "limit_usd": limit_usd, "period": period, "counted": counted}
    connection.execute(_PUT, {**values, "now": now})


def count(database: Database, *, now: datetime) -> None:
    """Count what was called under new budgets before they were set, as far as nothing can be missed any more."""
    with database.begin() as work:
        work.connection.execute(_STAMP)
    with database.begin() as work:
        countable = work.connection.execute(_COUNTABLE).all()
    for budget in countable:
        kind, values = Kind(budget.kind), {"id": budget.id, "subject_id": budget.subject_id, "now": now}
        with database.begin() as work:
            # A call's end locks its row and then the budgets, so this does too; and with them locked it reads anew.
            work.connection.execute(_open_calls(kind), values)
            if work.connection.execute(_UNCOUNTED, values).first():
                work.connection.execute(_counting(kind), values)


def _open_calls(kind: Kind) -> TextClause:
    """SQL that locks the calls under way (ix_model_calls_reserved), of which no new ones are opened meanwhile."""
    return text(
        f"SELECT id FROM model_calls WHERE state = 'reserved' AND {kind}_id = :subject_id ORDER BY id FOR UPDATE"  # noqa: S608  # an enum's
    )


def _counting(kind: Kind) -> TextClause:
    """SQL that sums the ledger for a budget whose row is locked, so that no call of its begins or ends meanwhile."""
    column = f"{kind}_id"
    hourly = (
        "0"
        if kind is Kind.TASK
        else f"""(
        SELECT coalesce(sum(usage_hourly.cost_usd), 0) FROM usage_hourly, due
        WHERE usage_hourly.{column} = :subject_id AND (due.since IS NULL OR hour >= due.since))"""  # noqa: S608  # ours
    )
    # A task's rows are few, and found by ix_model_calls_task_id, rolled or not.
    still = "" if kind is Kind.TASK else "AND NOT rolled"
    return text(
        f"""
        WITH due AS (SELECT {PRESENT} AS since FROM budgets WHERE id = :id),
        held AS (
            UPDATE model_calls SET held_by = array_append(array_remove(held_by, :id), :id)
            WHERE state = 'reserved' AND {column} = :subject_id
            RETURNING reserved_usd
        ), spent AS (
            SELECT coalesce(sum(cost_usd), 0) AS usd FROM model_calls, due
            WHERE {column} = :subject_id AND state <> 'reserved' {still}
              AND (due.since IS NULL OR ended_at >= due.since)
        )
        UPDATE budgets SET counted = true, period_start = (SELECT since FROM due),
            spent_usd = (SELECT usd FROM spent) + {hourly},
            reserved_usd = (SELECT coalesce(sum(reserved_usd), 0) FROM held)
        WHERE id = :id
        """  # noqa: S608  # built from constants of ours
    )


def _view(connection: Connection, kind: Kind, subject_id: str, now: datetime) -> BudgetView:
    row: Row[Any] | None = connection.execute(_GET, {"id": f"{kind}:{subject_id}", "now": now}).first()
    if row is None:
        raise _no_budget(kind, subject_id)
    return BudgetView(**row._mapping)


def _check(connection: Connection, principal: Principal, kind: Kind, subject_id: str, *, changes: bool) -> None:
    """Whether the principal may see or change the budget of something."""
    if kind is Kind.NETWORK:
        require(connection, principal, subject_id, keep=changes)
    elif kind is Kind.TASK:
        theirs = select(tasks.c.id).join(networks).where(tasks.c.id == subject_id, accessible(principal))
        if connection.execute(theirs).first() is None:
            raise NotFoundError(f"There is no task {subject_id!r}.")
    elif changes and not principal.is_admin:
        raise ForbiddenError(f"The budget of a {kind} is set by administrators.")
    elif kind is Kind.KEY:
        owner = connection.execute(select(api_keys.c.user_id).where(api_keys.c.id == subject_id)).scalar()
        if owner is None or not (principal.is_admin or owner == principal.user_id):
            raise NotFoundError(f"There is no key {subject_id!r}.")
    elif not (principal.is_admin or subject_id == principal.user_id):
        raise _no_budget(kind, subject_id)


def _no_budget(kind: Kind, subject_id: str) -> NotFoundError:
    return NotFoundError(f"There is no budget for the {kind} {subject_id!r}.")
