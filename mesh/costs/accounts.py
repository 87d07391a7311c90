"""Accounts: what budgets hold and have spent, changed only together with the ledger rows that it is about.

ledger and tasks.journal -> here.  A call is opened after its worst case was held against every budget above it, and
its end releases that and books what it cost, each in one transaction with the budgets' rows locked in the order of
their ids.  So spent plus reserved is exact at any moment, and never above the limit by what a call did.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, text

from mesh.errors import BudgetBusyError, BudgetExceededError

# The beginning of a budget's present period; null for `total`.
PRESENT = "CASE WHEN period <> 'total' THEN date_trunc(period, CAST(:now AS timestamptz), 'UTC') END"

# What was spent in it: a period that is over counts no more, though no call has come since.  Periods only go forward:
# a write may be older than the period, by a clock that is behind or since it had to be repeated.
SPENT = f"CASE WHEN period = 'total' OR period_start >= {PRESENT} THEN spent_usd ELSE 0 END"
_START = f"greatest(period_start, {PRESENT})"


# The ids of the budgets above a row of the ledger.
SUBJECTS = "ARRAY['user:' || user_id, 'network:' || network_id, 'key:' || key_id, 'task:' || task_id]"

# Those above a row of `tasks`.
TASK_SUBJECTS = (
    "ARRAY['user:' || tasks.owner, 'network:' || tasks.network_id, 'key:' || tasks.key_id, 'task:' || tasks.id]"
)


@dataclass(frozen=True, slots=True)
class Account:
    """A budget as it stands, in US dollars; not `counted`: what was called before it was set is not in it yet."""

    id: str
    limit_usd: Decimal
    spent_usd: Decimal
    reserved_usd: Decimal
    counted: bool


_LOCK = text(
    f"""
    SELECT id, limit_usd, {SPENT} AS spent_usd, reserved_usd, counted FROM budgets
    WHERE id = ANY(:ids) ORDER BY id FOR UPDATE
    """  # noqa: S608  # built from constants of ours
)

_HOLD = text(
    f"""
    UPDATE budgets SET reserved_usd = reserved_usd + :usd, spent_usd = {SPENT}, period_start = {_START}
    WHERE id = ANY(:ids)
    """  # noqa: S608  # as above
)


def lock(connection: Connection, ids: Sequence[str], *, now: datetime) -> list[Account]:
    """Those of the budgets `ids` that there are, locked until the transaction ends."""
    return [Account(**row._mapping) for row in connection.execute(_LOCK, {"ids": list(ids), "now": now})]


def judge(accounts: Sequence[Account], worst_usd: Decimal, *, unpriced: bool = False) -> None:
    """Let a call pass that costs at most `worst_usd`; `unpriced`: nobody knows what it costs, which nothing bounds.

    Selection leaves such models out where there is a budget; it did not know of one that was set just now.

    Raises:
        BudgetExceededError: with what is spent it would pass a limit.
        BudgetBusyError: only what others have reserved stands in the way.
    """
    if unpriced:
        raise BudgetBusyError(f"A model without a known price cannot be held to the budget {accounts[0].id}.")
    tightest = min(accounts, key=lambda account: account.limit_usd - account.spent_usd)
    if tightest.spent_usd + worst_usd > tightest.limit_usd:
        left = max(tightest.limit_usd - tightest.spent_usd, Decimal(0))
        raise BudgetExceededError(
            f"The budget {tightest.id} has {left:f} US dollars left; the call may take {worst_usd:f}.",
            needed_usd=worst_usd,
            left_usd=left,
        )
    for account in accounts:
        if not account.counted or account.spent_usd + account.reserved_usd + worst_usd > account.limit_usd:
            raise BudgetBusyError(f"Calls under way hold what is left of the budget {account.id}.")


def hold(connection: Connection, accounts: Sequence[Account], usd: Decimal, *, now: datetime) -> list[str]:
    """Reserve `usd` in each of `accounts`, which are locked; answers their ids, for the ledger row's `held_by`."""
    ids = [account.id for account in accounts]
    connection.execute(_HOLD, {"ids": ids, "usd": usd, "now": now})
    return ids


_LEFT = text(f"SELECT min(limit_usd - {SPENT}) FROM budgets WHERE id = ANY(:ids)")  # noqa: S608  # as above


def left(connection: Connection, ids: Sequence[str], *, now: datetime) -> Decimal | None:
    """What the tightest of the budgets `ids` has not spent yet, in US dollars; None where there is none."""
    found: Decimal | None = connection.execute(_LEFT, {"ids": list(ids), "now": now}).scalar_one()
    return found


def charging(ended: str) -> str:
    """The CTEs that release and book what the rows of the CTE `ended` held and cost.

    `ended` has `subjects`, `held_by`, and in US dollars `released` and `cost`; and what an earlier end had `booked`,
    at `booked_at`, which a correction takes back if the budget's period is still the same.  A budget that is not yet
    counted is locked as well, so that the count comes either before or after.
    """
    return f"""
    above AS (
        SELECT subject AS id, {ended}.* FROM {ended}, unnest(subjects) AS subject
    ), locked AS (
        SELECT id, period FROM budgets WHERE id = ANY(ARRAY(SELECT above.id FROM above)) ORDER BY id FOR UPDATE
    ), due AS (
        SELECT locked.id,
            sum(cost - CASE WHEN booked_at >= coalesce({PRESENT}, '-infinity') THEN booked ELSE 0 END) AS spent,
            sum(CASE WHEN locked.id = ANY(held_by) THEN released ELSE 0 END) AS released
        FROM above JOIN locked ON locked.id = above.id GROUP BY locked.id
    ), charged AS (
        UPDATE budgets SET reserved_usd = reserved_usd - due.released,
            spent_usd = {SPENT} + due.spent, period_start = {_START}
        FROM due WHERE budgets.id = due.id
    )"""  # noqa: S608  # built from constants of ours


def ids_of(user_id: str, network_id: str | None, key_id: str | None, task_id: str | None) -> list[str]:
    """The ids of the budgets that a call may be under, whether there are such budgets or not."""
    found: dict[str, Any] = {"user": user_id, "network": network_id, "key": key_id, "task": task_id}
    return [f"{kind}:{subject}" for kind, subject in found.items() if subject is not None]
