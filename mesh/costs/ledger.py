"""The ledger: one row a model call, `reserved` before it is sent and ended exactly once, by its call id.

Every function works within the caller's transaction; the orchestrator settles together with the reply that it stores.
A row's end also releases what budgets hold for it, see `mesh.costs.accounts`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from sqlalchemy import Connection, TextClause, text

from mesh.costs import accounts

EndState = Literal["settled", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Spender:
    """Who a call is for; what its cost is attributed to."""

    user_id: str
    key_id: str | None
    network_id: str | None
    task_id: str | None
    step_id: str | None
    agent_type: str | None
    attempt: int
    worker_id: str | None = None

    @property
    def budgets(self) -> list[str]:
        """The ids of the budgets above it, whether there are such budgets or not."""
        return accounts.ids_of(self.user_id, self.network_id, self.key_id, self.task_id)


@dataclass(frozen=True, slots=True)
class Opening:
    """A call about to be made; `reserved_usd` is its worst case, `selection` says why its model was chosen."""

    call_id: str
    requested_model: str | None
    model: str
    provider: str
    reserved_usd: Decimal
    unpriced: bool
    sandbox: bool
    selection: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Bill:
    """What a call used, and its cost in US dollars (None: no known price).

    Tokens as the provider counted them, and the exact cost.  `estimated`: it did not say; the cost is an upper bound
    then, and tokens are 0 where nobody can know them.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    cost_usd: Decimal | None
    estimated: bool = False


def opening(source: str) -> str:
    """SQL that writes the row of a call about to be sent, for each row of `source`; answers its id.

    A row that stands already, from a write that was repeated, stays, and is not answered; nothing is written either
    while there is a budget above the call that does not hold it.
    """
    return f"""
        INSERT INTO model_calls (
            id, user_id, key_id, network_id, task_id, step_id, agent_type, attempt, worker_id,
            requested_model, model, provider, reserved_usd, unpriced, sandbox, selection, held_by, created_at,
            state, prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens, cost_usd, estimated)
        SELECT
            :call_id, :user_id, :key_id, :network_id, :task_id, :step_id, :agent_type, :attempt, :worker_id,
            :requested_model, :model, :provider, :reserved_usd, :unpriced, :sandbox, CAST(:selection AS jsonb),
            CAST(:held_by AS text[]), :now,
            'reserved', 0, 0, 0, 0, 0, false
        FROM {source}
        WHERE NOT EXISTS (SELECT FROM budgets WHERE id = ANY(:budgets) AND id <> ALL(:held_by))
        ON CONFLICT DO NOTHING
        RETURNING id"""  # noqa: S608  # built from constants of ours


def opening_values(spender: Spender, call: Opening, *, held_by: Sequence[str] = ()) -> dict[str, Any]:
    """The parameters of `opening`, but for `now`; `held_by` are the budgets that hold its reservation."""
    selection = json.dumps(call.selection) if call.selection is not None else None
    held = {"held_by": list(held_by), "budgets": spender.budgets}
    return {**_values(spender), **_values(call), "selection": selection, **held}


_HELD_BY = text("SELECT held_by FROM model_calls WHERE id = :call_id")


def held_by(connection: Connection, call_id: str) -> list[str] | None:
    """The budgets that hold the call, if its row is there: a write whose answer was lost had taken place."""
    row = connection.execute(_HELD_BY, {"call_id": call_id}).first()
    return None if row is None else list(row.held_by)


def ending(which: str, changes: str) -> str:
    """The CTEs that end the open rows for which `which` holds, and settle with their budgets; `ended` has their ids.

    A row that was charged its reservation because nobody knew how the call ended is open to a better word until its
    hour's books are closed.
    """
    return f"""
    found AS (
        SELECT id AS call_id, state, cost_usd, ended_at FROM model_calls
        WHERE {which} AND (state = 'reserved' OR (estimated AND NOT rolled))
        FOR UPDATE
    ), ended AS (
        UPDATE model_calls SET {changes}, ended_at = :now
        FROM found WHERE model_calls.id = found.call_id
        RETURNING held_by, {accounts.SUBJECTS} AS subjects, model_calls.cost_usd AS cost,
            found.cost_usd AS booked, found.ended_at AS booked_at,
            CASE found.state WHEN 'reserved' THEN reserved_usd ELSE 0 END AS released
    ), {accounts.charging("ended")}"""  # noqa: S608  # built from constants of ours


# What the provider said, or what must be assumed of a call that was cut off.
BILLED = """state = :call_state, prompt_tokens = :prompt_tokens, completion_tokens = :completion_tokens,
            cached_tokens = :cached_tokens, reasoning_tokens = :reasoning_tokens,
            cost_usd = coalesce(:cost_usd, 0), estimated = :estimated, error_code = :error_code,
            latency_seconds = :seconds"""

_FREE = """state = 'failed', cost_usd = 0, estimated = false, error_code = :error_code, latency_seconds = :seconds"""

_UNKNOWN = """state = 'cancelled', cost_usd = reserved_usd, estimated = true, error_code = :error_code"""


def _statement(which: str, changes: str) -> TextClause:
    return text(f"WITH {ending(which, changes)} SELECT FROM ended")  # as above


_CLOSE_BILLED = _statement("id = :call_id", BILLED)
_CLOSE_FAILED = _statement("id = :call_id", _FREE)
_CLOSE_UNKNOWN = _statement("id = :call_id AND state = 'reserved'", _UNKNOWN)
_CLOSE_STEP = _statement("step_id = :step_id AND state = 'reserved'", _UNKNOWN)  # ix_model_calls_reserved


def billed_values(
    call_id: str, bill: Bill, *, seconds: float, state: str = "settled", error_code: str | None = None
) -> dict[str, Any]:
    """The parameters of `BILLED`, but for `now`; `state` is `failed` when the reply was of no use."""
    return {**_values(bill), "call_id": call_id, "call_state": state, "error_code": error_code, "seconds": seconds}


def close_billed(
    connection: Connection,
    call_id: str,
    bill: Bill,
    *,
    seconds: float,
    state: EndState,
    error_code: str | None,
    now: datetime,
) -> None:
    """End a call that was billed: for its reply, for one of no use, or for what came of it before it was cut off."""
    values = billed_values(call_id, bill, seconds=seconds, state=state, error_code=error_code)
    connection.execute(_CLOSE_BILLED, {**values, "now": now})


def close_failed(connection: Connection, call_id: str, *, error_code: str, seconds: float, now: datetime) -> None:
    """End a call that the provider refused or that never reached it: it costs nothing."""
    connection.execute(_CLOSE_FAILED, {"call_id": call_id, "error_code": error_code, "seconds": seconds, "now": now})


def close_unknown(connection: Connection, call_id: str, *, error_code: str, now: datetime) -> None:
    """End a call whose end nobody knows: charged its reservation, and marked as estimated."""
    connection.execute(_CLOSE_UNKNOWN, {"call_id": call_id, "error_code": error_code, "now": now})


def close_step(connection: Connection, step_id: str, *, error_code: str, now: datetime) -> None:
    """As `close_unknown`, for all open calls of a step."""
    connection.execute(_CLOSE_STEP, {"step_id": step_id, "error_code": error_code, "now": now})


def _values(record: Spender | Opening | Bill) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in fields(record)}
