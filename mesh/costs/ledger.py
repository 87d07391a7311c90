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


def opening(source: str) -> str:
    """SQL that writes the row of a call about to be sent, for each row of `source`; answers its id.

    A row that stands already, from a write that was repeated, stays, and is not answered.
    """
    return f"""
        INSERT INTO model_calls (
            id, user_id, key_id, network_id, task_id, step_id, agent_type, attempt,
            requested_model, model, provider, reserved_usd, unpriced, sandbox, created_at,
            state, prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens, cost_usd, estimated)
        SELECT
            :call_id, :user_id, :key_id, :network_id, :task_id, :step_id, :agent_type, :attempt,
            :requested_model, :model, :provider, :reserved_usd, :unpriced, :sandbox, :now,
            'reserved', 0, 0, 0, 0, 0, false
        FROM {source}
        ON CONFLICT DO NOTHING
        RETURNING id"""  # noqa: S608  # built from constants of ours


def opening_values(spender: Spender, call: Opening) -> dict[str, Any]:
    """The parameters of `opening`, but for `now`."""
    return {**_values(spender), **_values(call)}


# A row that was charged its reservation because nobody knew how the call ended is corrected.
SETTLING = """
        UPDATE model_calls
        SET state = :call_state, prompt_tokens = :prompt_tokens, completion_tokens = :completion_tokens,
            cached_tokens = :cached_tokens, reasoning_tokens = :reasoning_tokens, cost_usd = coalesce(:cost_usd, 0),
            estimated = false, error_code = :error_code, latency_seconds = :seconds, ended_at = :now
        WHERE id = :call_id AND (state = 'reserved' OR estimated)"""

_SETTLE = text(SETTLING)


def settling_values(call_id: str, bill: Bill, *, seconds: float, error_code: str | None = None) -> dict[str, Any]:
    """The parameters of `SETTLING`, but for `now`: `settled`, or `failed` when the reply was of no use."""
    state = "failed" if error_code else "settled"
    return {**_values(bill), "call_id": call_id, "call_state": state, "error_code": error_code, "seconds": seconds}


def close_useless(
    connection: Connection, call_id: str, bill: Bill, *, seconds: float, error_code: str, now: datetime
) -> None:
    """End a call that was billed for a reply of no use."""
    values = settling_values(call_id, bill, seconds=seconds, error_code=error_code)
    connection.execute(_SETTLE, {**values, "now": now})


def _values(record: Spender | Opening | Bill) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in fields(record)}


def close_failed(connection: Connection, call_id: str, *, error_code: str, seconds: float, now: datetime) -> None:
    """End a call that the provider refused or that never reached it: it costs nothing."""
    connection.execute(
        update(model_calls)
        .where(model_calls.c.id == call_id, (model_calls.c.state == "reserved") | model_calls.c.estimated)
        .values(
            state="failed", cost_usd=0, estimated=False, error_code=error_code, latency_seconds=seconds, ended_at=now
        )
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
