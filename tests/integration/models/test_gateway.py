"""The gateway in front of real HTTP and real books: the ledger after each call, faults, cancelling, many at once."""

import json
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Row

from mesh.costs.ledger import Spender
from mesh.errors import DeadlineExceededError, InvalidReplyError, StepLostError
from mesh.models.calls import Cancellation, Completion, Journal, Messages, ModelCall, Reply, Translator
from mesh.models.litellm_calls import LiteLLMCalls
from mesh.tasks.claims import Claim
from mesh.tasks.journal import StepJournal
from tests.builders import gateway as gateway_to
from tests.integration.models.conftest import MESSAGES, NAMES, WITH_LITELLM, reach, sandbox_bases
from tests.integration.tasks.core import ANN, Core
from tests.sandbox import Sandbox

pytestmark = WITH_LITELLM

SCHEMA = {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"], "additionalProperties": False}


@pytest.fixture
def claim(core: Core) -> Claim:
    core.submit(core.network())
    return core.claim()


def parse(text: str) -> str:
    try:
        return str(json.loads(text)["x"])
    except (ValueError, KeyError) as error:
        raise InvalidReplyError(["x: missing"]) from error


def repair(messages: Messages, _text: str, errors: Sequence[str]) -> Messages:
    return [*messages, {"role": "user", "content": "; ".join(errors)}]


def journal(core: Core, claim: Claim) -> StepJournal:
    spender = Spender(claim.owner, None, None, claim.task_id, claim.step_id, claim.agent_type, claim.attempt)
    return StepJournal(claim, spender, sandbox=True, database=core.database, wakeups=core.wakeups, clock=core.clock)


def complete(
    calls: Translator, book: Journal, *, seconds: float = 20, cancellation: Cancellation | None = None
) -> Reply[str]:
    request = Completion(MESSAGES, {"name": "any", "strict": True, "schema": SCHEMA}, parse, repair, 1000)
    gateway = gateway_to(calls, *NAMES)
    return gateway.complete(request, journal=book, cancellation=cancellation or Cancellation(), timeout_seconds=seconds)


def ledger(core: Core, claim: Claim) -> list[Row[Any]]:
    return core.calls(claim.task_id)


def brief(rows: list[Row[Any]]) -> list[tuple[str, str, str | None]]:
    return [(row.provider, row.state, row.error_code) for row in rows]


def test_a_reply_leaves_its_row_reserved_for_the_caller_to_settle(
    core: Core, claim: Claim, calls: LiteLLMCalls, sandbox: Sandbox
) -> None:
    reply = complete(calls, journal(core, claim))
    [row] = ledger(core, claim)
    assert (row.id, row.state, row.model) == (reply.call_id, "reserved", "claude-sonnet-5-5")
    assert row.reserved_usd >= (reply.raw.cost_usd or 0) > 0
    assert [call["call"] for call in sandbox.calls()] == [row.id]


def test_an_invalid_reply_is_billed_and_a_refusal_is_free(
    core: Core, claim: Claim, calls: LiteLLMCalls, sandbox: Sandbox
) -> None:
    sandbox.fault("invalid_schema", provider="anthropic", times=2)
    sandbox.fault("503", provider="openai")
    complete(calls, journal(core, claim))
    rows = ledger(core, claim)
    assert brief(rows) == [
        ("anthropic", "failed", "invalid_reply"),
        ("anthropic", "failed", "invalid_reply"),
        ("openai", "failed", "provider_error"),
        ("gemini", "reserved", None),
    ]
    assert rows[0].cost_usd > 0
    assert (rows[0].prompt_tokens, rows[0].completion_tokens) == (
        sandbox.calls()[0]["prompt_tokens"],
        sandbox.calls()[0]["completion_tokens"],
    )
    assert (rows[2].cost_usd, rows[2].estimated) == (0, False)
    assert [call["call"] for call in sandbox.calls()] == [row.id for row in rows]


def test_a_model_that_hangs_leaves_time_for_the_next_and_is_charged_what_was_reserved(
    core: Core, claim: Claim, calls: LiteLLMCalls, sandbox: Sandbox
) -> None:
    sandbox.fault("hang", provider="anthropic")
    assert complete(calls, journal(core, claim), seconds=4).model.provider == "openai"
    first, second = ledger(core, claim)
    assert (first.state, first.error_code, first.estimated) == ("failed", "timeout", True)
    assert first.cost_usd == first.reserved_usd > 0
    assert second.state == "reserved"


def test_the_deadline_bounds_a_chain_of_hanging_models(
    core: Core, claim: Claim, calls: LiteLLMCalls, sandbox: Sandbox
) -> None:
    sandbox.fault("hang")
    began = time.monotonic()
    with pytest.raises(DeadlineExceededError):
        complete(calls, journal(core, claim), seconds=2)
    assert time.monotonic() - began < 3.5
    assert {(row.state, row.error_code, row.estimated) for row in ledger(core, claim)} == {("failed", "timeout", True)}


def test_a_cancelled_call_is_closed_within_a_second_and_charged_what_was_reserved(
    core: Core, claim: Claim, calls: LiteLLMCalls, sandbox: Sandbox
) -> None:
    sandbox.fault("hang")
    cancellation = Cancellation()
    with ThreadPoolExecutor(1) as slot:
        running = slot.submit(complete, calls, journal(core, claim), cancellation=cancellation)
        sandbox.started(1)
        cancelled_at = time.time()
        cancellation.cancel()
        with pytest.raises(StepLostError):
            running.result()
    [call] = sandbox.ended(1)
    assert call["disconnected"]
    assert call["ended_at"] - cancelled_at < 1
    [row] = ledger(core, claim)
    assert (row.state, row.error_code, row.estimated) == ("cancelled", "cancelled", True)
    assert row.cost_usd == row.reserved_usd


def test_a_provider_that_refuses_connections_is_tried_twice_free_of_charge(
    core: Core, claim: Claim, sandbox: Sandbox
) -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        bases = sandbox_bases(sandbox) | {"anthropic": f"http://127.0.0.1:{taken.getsockname()[1]}"}
        complete(reach(bases), journal(core, claim))
    rows = ledger(core, claim)
    assert brief(rows) == [*[("anthropic", "failed", "connection_failed")] * 2, ("openai", "reserved", None)]
    assert [row.cost_usd for row in rows] == [0, 0, 0]


def test_a_step_that_was_cancelled_meanwhile_asks_nobody(
    core: Core, claim: Claim, calls: LiteLLMCalls, sandbox: Sandbox
) -> None:
    core.tasks.cancel(ANN, core.task(claim.task_id).network_id, claim.task_id)
    with pytest.raises(StepLostError):
        complete(calls, journal(core, claim))
    assert sandbox.calls() == []
    assert ledger(core, claim) == []


class Unwritten:
    """A journal that keeps nothing: 64 at once are not for the database's ten connections."""

    def opened(self, call: ModelCall, **_: object) -> None:
        """Let it be made."""

    def failed(self, call: ModelCall, *_: object, **__: object) -> None:
        raise AssertionError(call)

    def cancelled(self, call: ModelCall, **_: object) -> None:
        raise AssertionError(call)


def test_64_calls_of_one_model_are_in_flight_at_once(calls: LiteLLMCalls, sandbox: Sandbox) -> None:
    """Nothing on the way holds a lock around a call."""
    sandbox.fault("hang;1.5")
    with ThreadPoolExecutor(64) as slots:
        replies = list(slots.map(lambda _: complete(calls, Unwritten(), seconds=40), range(64)))
    assert {reply.model.provider for reply in replies} == {"anthropic"}
    made = sandbox.ended(64)
    assert max(call["started_at"] for call in made) < min(call["ended_at"] for call in made)
