"""The translator over real HTTP: what reaches each provider, what comes back, what it costs, and how it fails."""

import asyncio
import socket
import time
from concurrent.futures import CancelledError
from dataclasses import replace
from decimal import Decimal
from threading import Event, current_thread
from typing import Any

import pytest

from mesh.agents import schemas
from mesh.errors import InvalidReplyError, ModelCallError
from mesh.models.calls import Usage
from mesh.models.catalogue import Model
from mesh.models.litellm_calls import LiteLLMCalls
from tests.integration.models.conftest import NAMES, PATHS, WITH_LITELLM, call_of, reach
from tests.integration.models.recorder import recorder
from tests.sandbox import Sandbox

pytestmark = WITH_LITELLM

providers = pytest.mark.parametrize("provider", NAMES)

REFUSALS = {
    "400": ("bad_request", 400),
    "401": ("not_authorized", 401),
    "403": ("not_authorized", 403),
    "404": ("model_not_found", 404),
    "429": ("rate_limited", 429),
    "quota": ("rate_limited", 429),
    "500": ("provider_error", 500),
    "503": ("provider_error", 503),
    "529": ("overloaded", 529),
    "context_length": ("context_too_long", 400),
}
MAY_HAVE_WORKED = {
    "408": "timeout",
    "reset": "connection_failed",
    "drop_stream": "malformed_reply",
    "malformed_body": "malformed_reply",
    "content_block": "content_blocked",
}


def price(model: Model, usage: Usage) -> Decimal:
    """By the price map, digit for digit."""
    facts = {name: Decimal(str(value)) for name, value in model.facts.items() if isinstance(value, float)}
    return (
        (usage.prompt_tokens - usage.cached_tokens) * facts["input_cost_per_token"]
        + usage.cached_tokens * facts["cache_read_input_token_cost"]
        + usage.completion_tokens * facts["output_cost_per_token"]
    )


def failure(calls: LiteLLMCalls, provider: str, *, seconds: float = 20) -> ModelCallError:
    with pytest.raises(ModelCallError) as caught:
        calls.start(call_of(provider, seconds=seconds)).result()
    return caught.value


@providers
def test_a_reply_brings_text_usage_and_its_exact_cost(provider: str, calls: LiteLLMCalls, sandbox: Sandbox) -> None:
    call = call_of(provider)
    reply = calls.start(call).result()
    assert schemas.parse_reply(reply.text).result
    [sent] = sandbox.calls()
    assert (sent["provider"], sent["call"], sent["status"]) == (provider, call.call_id, 200)
    assert reply.usage == Usage(sent["prompt_tokens"], sent["completion_tokens"])
    assert reply.cost_usd == price(call.model, reply.usage)


@providers
@pytest.mark.parametrize("kind", REFUSALS)
def test_a_refusal_has_one_code_with_every_provider_and_is_free(
    kind: str, provider: str, calls: LiteLLMCalls, sandbox: Sandbox
) -> None:
    """One request each: LiteLLM's own retries are off."""
    sandbox.fault(kind)
    error = failure(calls, provider)
    assert (error.code, error.status, error.may_cost) == (*REFUSALS[kind], False)
    assert error.retry_after_seconds is None
    assert len(sandbox.calls()) == 1


@providers
@pytest.mark.parametrize("kind", ["429;7", "503;7"])
def test_retry_after_is_told(kind: str, provider: str, calls: LiteLLMCalls, sandbox: Sandbox) -> None:
    sandbox.fault(kind)
    assert failure(calls, provider).retry_after_seconds == 7


@providers
@pytest.mark.parametrize("kind", MAY_HAVE_WORKED)
def test_a_call_that_the_provider_may_have_worked_on_may_cost(
    kind: str, provider: str, calls: LiteLLMCalls, sandbox: Sandbox
) -> None:
    """One request each: LiteLLM by itself would repeat what a connection broke."""
    sandbox.fault(kind)
    error = failure(calls, provider)
    assert (error.code, error.may_cost) == (MAY_HAVE_WORKED[kind], True)
    assert len(sandbox.calls()) == 1


@providers
@pytest.mark.parametrize("kind", ["malformed_json", "invalid_schema", "truncate"])
def test_a_reply_that_breaks_the_schema_is_billed_and_left_to_the_validation(
    kind: str, provider: str, calls: LiteLLMCalls, sandbox: Sandbox
) -> None:
    sandbox.fault(kind)
    reply = calls.start(call_of(provider)).result()
    assert reply.cost_usd
    with pytest.raises(InvalidReplyError):
        schemas.parse_reply(reply.text)


@providers
@pytest.mark.parametrize("kind", ["hang", "hang_stream"])
def test_the_time_given_bounds_the_whole_call(kind: str, provider: str, calls: LiteLLMCalls, sandbox: Sandbox) -> None:
    sandbox.fault(kind)
    began = time.monotonic()
    error = failure(calls, provider, seconds=0.4)
    assert time.monotonic() - began < 1.4
    assert (error.code, error.may_cost) == ("timeout", True)
    [ended] = sandbox.ended(1)
    assert ended["disconnected"]


@providers
def test_cancelling_closes_the_connection_within_a_second(provider: str, calls: LiteLLMCalls, sandbox: Sandbox) -> None:
    sandbox.fault("hang")
    future = calls.start(call_of(provider))
    sandbox.started(1)
    cancelled_at = time.time()
    future.cancel()
    with pytest.raises(CancelledError):
        future.result()
    [ended] = sandbox.ended(1)
    assert ended["disconnected"]
    assert ended["ended_at"] - cancelled_at < 1


@providers
def test_a_provider_that_cannot_be_reached_is_free(provider: str) -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        nowhere = reach({provider: f"http://127.0.0.1:{taken.getsockname()[1]}{PATHS[provider]}"})
        error = failure(nowhere, provider)
    assert (error.code, error.may_cost) == ("connection_failed", False)


OPENAIS: dict[str, Any] = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "service_tier": "on_demand",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "{}"}}],
    "usage": {
        "prompt_tokens": 1001,
        "completion_tokens": 203,
        "total_tokens": 1204,
        "prompt_tokens_details": {"cached_tokens": 400},
        "completion_tokens_details": {"reasoning_tokens": 50},
    },
}
ANSWERS: dict[str, Any] = {  # 1,001 tokens, 400 of them cached, bring 203
    "openai": OPENAIS,
    "groq": OPENAIS,
    "anthropic": {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "{}"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 601, "cache_read_input_tokens": 400, "output_tokens": 203},
    },
    "gemini": {
        "candidates": [{"content": {"role": "model", "parts": [{"text": "{}"}]}, "finishReason": "STOP"}],
        "usageMetadata": {
            "promptTokenCount": 1001,
            "cachedContentTokenCount": 400,
            "candidatesTokenCount": 153,
            "thoughtsTokenCount": 50,
            "totalTokenCount": 1204,
        },
    },
}


def asked_schema(provider: str, body: dict[str, Any]) -> Any:  # noqa: ANN401  # any JSON value
    if provider == "anthropic":
        return body["output_format"]["schema"]
    if provider == "gemini":
        return body["generationConfig"]["response_json_schema"]
    assert body["response_format"]["json_schema"]["strict"] is True
    return body["response_format"]["json_schema"]["schema"]


@providers
def test_the_schema_goes_to_the_provider_as_its_own_feature(provider: str) -> None:
    call = call_of(provider)
    with recorder() as provided:
        provided.answer = ANSWERS[provider]
        reach({provider: provided.url}).start(call).result()
        [(headers, body)] = provided.requests
    assert asked_schema(provider, body) == schemas.reply_schema()["schema"]
    assert "tools" not in body
    assert headers["x-mesh-call"] == call.call_id
    limits = body.get("generationConfig", body)
    assert 4000 in (limits.get("max_tokens"), limits.get("max_output_tokens"))


@providers
def test_an_answer_that_trickles_in_is_bounded_too(provider: str) -> None:
    """LiteLLM's own timeouts bound each read, and none of these takes long."""
    with recorder() as provided:
        provided.answer, provided.pause_seconds = ANSWERS[provider], 0.1
        calls = reach({provider: provided.url})
        began = time.monotonic()
        error = failure(calls, provider, seconds=0.5)
        took = time.monotonic() - began
    assert error.code == "timeout"
    assert took < 5  # of 20 s or more that the whole takes; a process's first call takes one by itself


@providers
def test_cached_and_reasoning_tokens_are_counted_and_priced(provider: str) -> None:
    call = call_of(provider)
    with recorder() as provided:
        provided.answer = ANSWERS[provider]
        reply = reach({provider: provided.url}).start(call).result()
    reasoning = 0 if provider == "anthropic" else 50
    assert reply.usage == Usage(1001, 203, cached_tokens=400, reasoning_tokens=reasoning)
    assert reply.cost_usd == price(call.model, reply.usage)


@providers
@pytest.mark.parametrize("answer", [{}, {"choices": []}, {"choices": None, "content": None, "candidates": None}, [], 1])
def test_json_of_another_shape_is_a_malformed_reply(provider: str, answer: object) -> None:
    with recorder() as provided:
        provided.answer = answer
        error = failure(reach({provider: provided.url}), provider)
    assert (error.code, error.may_cost) == ("malformed_reply", True)


def test_litellm_keeps_no_log_of_its_own(calls: LiteLLMCalls, sandbox: Sandbox) -> None:
    """Which would be a quarter of its CPU, with a reply and with a failure."""
    import litellm  # noqa: PLC0415  # loaded by `calls`

    logged: list[object] = []
    litellm.success_callback = litellm.failure_callback = [lambda *arguments: logged.append(arguments)]
    try:
        calls.start(call_of("anthropic")).result()
        sandbox.fault("500")
        failure(calls, "anthropic")
        time.sleep(0.2)
    finally:
        litellm.success_callback = litellm.failure_callback = []
    assert logged == []


@pytest.mark.usefixtures("sandbox")
def test_a_call_is_prepared_on_the_loop_and_one_with_images_beside_it(
    calls: LiteLLMCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread for it is a tenth of its CPU; but for some providers LiteLLM downloads images first."""
    import litellm  # noqa: PLC0415  # loaded by `calls`

    prepare, threads = litellm.main.completion, list[str]()

    def note(*args: Any, **options: Any) -> Any:  # noqa: ANN401  # LiteLLM's
        threads.append(current_thread().name)
        return prepare(*args, **options)

    monkeypatch.setattr(litellm.main, "completion", note)
    text = call_of("anthropic")
    image = {"type": "image_url", "image_url": {"url": "data:image/gif;base64,R0lGODlhAQABAAAAACw="}}
    shown = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]}]
    for call in (text, replace(text, messages=shown)):
        calls.start(call).result()
    assert threads[0] == "model-calls"
    assert threads[1] != "model-calls"


def test_providers_that_litellm_may_wait_for_keep_no_other_call_waiting() -> None:
    """It asks this one, say, in the midst of its preparation."""
    with recorder() as provided:
        provided.answer, provided.pause_seconds = {"results": [{"text": "{}"}]}, 0.2
        slow = Model("ours", "oobabooga/ours", "oobabooga", "LOW", (), {}, provided.url)
        calls = reach({})
        began = time.monotonic()
        with pytest.raises(ModelCallError) as caught:
            calls.start(replace(call_of("openai", seconds=0.5), model=slow)).result()
        took = time.monotonic() - began
    assert caught.value.code == "timeout"
    assert took < 3  # of the 6 s that the whole takes


def test_a_call_is_sent_before_the_next_one_is_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    with recorder() as provided:
        provided.answer = ANSWERS["anthropic"]
        calls = reach({"anthropic": provided.url})
        calls.start(call_of("anthropic")).result()  # from now on there is a connection
        import litellm  # noqa: PLC0415  # loaded by `calls`

        prepare, sent_before, both_wait = litellm.main.completion, list[int](), Event()

        def note(*args: Any, **options: Any) -> Any:  # noqa: ANN401  # LiteLLM's
            both_wait.wait()
            give_up = time.monotonic() + 2
            while len(provided.requests) <= len(sent_before) and time.monotonic() < give_up:
                time.sleep(0.01)
            sent_before.append(len(provided.requests))
            return prepare(*args, **options)

        monkeypatch.setattr(litellm.main, "completion", note)
        replies = [calls.start(call_of("anthropic")) for _ in range(2)]
        both_wait.set()
        assert [reply.result().text for reply in replies] == ["{}", "{}"]
    assert sent_before == [1, 2]


@pytest.mark.usefixtures("calls")
def test_what_litellm_knows_of_a_model_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks six times a call, a tenth of its CPU, and writes into some of the answers."""
    import litellm  # noqa: PLC0415  # loaded by `calls`

    asked = {"model": "claude-sonnet-5-5", "custom_llm_provider": "anthropic"}
    look_up: Any = litellm.main.get_model_info_helper  # type: ignore[attr-defined]  # it is there
    first = look_up(**asked)
    monkeypatch.setitem(litellm.model_cost["claude-sonnet-5-5"], "mode", "changed there")
    first["mode"] = "changed here"
    assert look_up(**asked)["mode"] == "chat"


@pytest.mark.usefixtures("calls")
def test_litellm_notes_nothing_on_a_reply() -> None:
    """Its cost above all, which is not ours: a seventh of its CPU."""
    import litellm  # noqa: PLC0415  # loaded by `calls`

    asked = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}], "mock_response": "Hello"}
    assert "response_cost" not in asyncio.run(litellm.acompletion(**asked))._hidden_params
