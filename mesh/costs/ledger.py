"""The ledger: one row a model call, `reserved` before it is sent and ended exactly once, by its call id.

Every function works within the caller's transaction; the orchestrator settles together with the reply that it stores.
"""

from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, text, update

from mesh.db.tables import model_calls


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


@dataclass(frozen=True, slots=True)
class Opening:
    """A call about to be made; `reserved_usd` is its worst case."""

    call_id: str
    requested_model: str | None
    model: str
    provider: str
    reserved_usd: Decimal
    unpriced: bool
    sandbox: bool


@dataclass(frozen=True, slots=True)
class Bill:
    """What a call used: tokens as the provider counted them, and its exact cost (None: no known price)."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    cost_usd: Decimal | None


# A row that stands already, from a write that was repeated, stays.
_OPEN = text(
    """
    INSERT INTO model_calls (
        id, user_id, key_id, network_id, task_id, step_id, agent_type, attempt,
        requested_model, model, provider, reserved_usd, unpriced, sandbox, created_at,
        state, prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens, cost_usd, estimated)
    VALUES (
        :call_id, :user_id, :key_id, :network_id, :task_id, :step_id, :agent_type, :attempt,
        :requested_model, :model, :provider, :reserved_usd, :unpriced, :sandbox, :now,
        'reserved', 0, 0, 0, 0, 0, false)
    ON CONFLICT DO NOTHING
    """
)

_SETTLE = text(
    """
    UPDATE model_calls
    SET state = :state, prompt_tokens = :prompt_tokens, completion_tokens = :completion_tokens,
        cached_tokens = :cached_tokens, reasoning_tokens = :reasoning_tokens, cost_usd = coalesce(:cost_usd, 0),
        estimated = false, error_code = :error_code, latency_seconds = :seconds, ended_at = :now
    WHERE id = :call_id AND (state = 'reserved' OR estimated)
    """
)


def open_call(connection: Connection, spender: Spender, opening: Opening, *, now: datetime) -> bool:
    """Write the row of a call that is about to be sent; False if it stands already, from a write that is repeated."""
    return connection.execute(_OPEN, {**_values(spender), **_values(opening), "now": now}).rowcount == 1


def settle(
    connection: Connection,
    call_id: str,
    bill: Bill,
    *,
    seconds: float,
    now: datetime,
    error_code: str | None = None,
) -> None:
    """End a call whose bill is known: `settled`, or `failed` when its reply was of no use.

    A row that was charged its reservation because nobody knew how the call ended is corrected.
    """
    state = "failed" if error_code else "settled"
    ended = {"call_id": call_id, "state": state, "error_code": error_code, "seconds": seconds, "now": now}
    connection.execute(_SETTLE, {**_values(bill), **ended})


def _values(record: Spender | Opening | Bill) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in fields(record)}


def close_failed(connection: Connection, call_id: str, *, error_code: str, seconds: float, now: datetime) -> None:
    """End a call that the provider refused or that never reached it: it costs nothing."""
    connection.execute(
        update(model_calls)
        .where(model_calls.c.id == call_id, model_calls.c.state == "reserved")
        .values(state="failed", error_code=error_code, latency_seconds=seconds, ended_at=now)
    )


def close_unknown(
    connection: Connection, *, now: datetime, error_code: str, call_id: str | None = None, step_id: str | None = None
) -> None:
    """End a call, or all open ones of a step, whose end nobody knows: charged the reservation, marked estimated."""
    chosen = model_calls.c.id == call_id if call_id else model_calls.c.step_id == step_id
    connection.execute(
        update(model_calls)
        .where(chosen, model_calls.c.state == "reserved")
        .values(
            state="cancelled",
            cost_usd=model_calls.c.reserved_usd,
            estimated=True,
            error_code=error_code,
            ended_at=now,
        )
    )
