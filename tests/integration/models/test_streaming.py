"""Streamed replies over real HTTP: text as it comes, exact usage and cost, and a part is never taken for a whole."""

import itertools
import json
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import replace
from typing import Any

import pytest

from mesh.agents import schemas
from mesh.errors import ModelCallError
from mesh.models.calls import ModelCall, RawReply, Usage
from mesh.models.litellm_calls import LiteLLMCalls
from tests.integration.models.conftest import NAMES, WITH_LITELLM, call_of, reach
from tests.integration.models.recorder import recorder
from tests.integration.models.test_litellm_calls import MAY_HAVE_WORKED, REFUSALS, price
from tests.sandbox import Sandbox

pytestmark = [
    *WITH_LITELLM,
    # LiteLLM reads `model_fields` of an instance when a stream ends.
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince211"),
]

providers = pytest.mark.parametrize("provider", NAMES)
kinds_of_reply = pytest.mark.parametrize("structured", [False, True], ids=["text", "schema"])


def streamed(
    provider: str, on_text: Callable[[str], None] = lambda _text: None, *, structured: bool = False, seconds: float = 20
) -> ModelCall:
    call = call_of(provider, seconds=seconds)
    return replace(call, on_text=on_text, schema=call.schema if structured else None)


def failure(calls: LiteLLMCalls, call: ModelCall) -> ModelCallError:
    with pytest.raises(ModelCallError) as caught:
        calls.start(call).result()
    return caught.value


@providers
@kinds_of_reply
def test_a_streamed_reply_is_its_pieces_with_exact_usage_and_cost(
    structured: bool, provider: str, calls: LiteLLMCalls, sandbox: Sandbox
) -> None:
    pieces: list[str] = []
    call = streamed(provider, pieces.append, structured=structured)
    reply = calls.start(call).result()
    assert reply.text == "".join(pieces)
    # LiteLLM asks Groq for a plain answer where a schema is wanted.
    assert len(pieces) > 5 or (provider == "groq" and structured)
    if structured:
        assert schemas.parse_reply(reply.text).result
    [sent] = sandbox.calls()
    assert sent["call"] == call.call_id
    assert reply.usage == Usage(sent["prompt_tokens"], sent["completion_tokens"])
    assert reply.cost_usd == price(call.model, reply.usage)
    assert (reply.finish_reason, reply.estimated) == ("stop", False)


@providers
def test_pieces_come_while_the_model_writes(provider: str, calls: LiteLLMCalls, sandbox: Sandbox) -> None:
    sandbox.latency(0, chunk=0.05)
    came: list[float] = []
    calls.start(streamed(provider, lambda _text: came.append(time.monotonic()))).result()
    assert came[-1] - came[0] > (len(came) - 2) * 0.05


@providers
def test_a_reply_of_full_length_says_so(provider: str, calls: LiteLLMCalls, sandbox: Sandbox) -> None:
    reply = calls.start(replace(streamed(provider), max_tokens=20)).result()
    assert reply.finish_reason == "length"
    assert reply.usage.completion_tokens == sandbox.calls()[0]["completion_tokens"] == 20


@pytest.mark.parametrize(
    ("provider", "structured", "kind"),
    [
        cut
        for cut in itertools.product(NAMES, [False, True], ["truncate", "drop_stream", "malformed_body"])
        if cut != ("groq", True, "truncate")  # a plain answer there, left to the validation
    ],
)
def test_a_stream_without_its_end_is_a_failure(
    provider: str, structured: bool, kind: str, calls: LiteLLMCalls, sandbox: Sandbox
) -> None:
    """LiteLLM takes two of the three for a success, with a `stop` and a usage that it makes up."""
    sandbox.fault(kind)
    error = failure(calls, streamed(provider, structured=structured))
    assert (error.code, error.may_cost) == ("malformed_reply", True)
    assert len(sandbox.calls()) == 1


@providers
@pytest.mark.parametrize("kind", [*REFUSALS, *sorted(MAY_HAVE_WORKED.keys() - {"malformed_body", "drop_stream"})])
def test_streams_fail_with_the_codes_of_plain_calls(
    kind: str, provider: str, calls: LiteLLMCalls, sandbox: Sandbox
) -> None:
    sandbox.fault(kind)
    error = failure(calls, streamed(provider))
    if kind in REFUSALS:
        assert (error.code, error.status, error.may_cost) == (*REFUSALS[kind], False)
    else:
        assert (error.code, error.may_cost) == (MAY_HAVE_WORKED[kind], True)
    assert len(sandbox.calls()) == 1


@providers
def test_retry_after_is_told(provider: str, calls: LiteLLMCalls, sandbox: Sandbox) -> None:
    sandbox.fault("429;7")
    assert failure(calls, streamed(provider)).retry_after_seconds == 7


@providers
def test_the_time_given_bounds_the_whole_stream(provider: str, calls: LiteLLMCalls, sandbox: Sandbox) -> None:
    sandbox.fault("hang_stream")
    pieces: list[str] = []
    error = failure(calls, streamed(provider, pieces.append, seconds=0.4))
    assert (error.code, error.may_cost) == ("timeout", True)
    assert pieces
    [ended] = sandbox.ended(1)
    assert ended["disconnected"]


@providers
def test_cancelling_closes_the_connection_within_a_second(provider: str, calls: LiteLLMCalls, sandbox: Sandbox) -> None:
    sandbox.fault("hang_stream")
    pieces: list[str] = []
    future = calls.start(streamed(provider, pieces.append))
    sandbox.started(1)
    deadline = time.monotonic() + 5
    while not pieces:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    cancelled_at = time.time()
    future.cancel()
    with pytest.raises(CancelledError):
        future.result()
    [ended] = sandbox.ended(1)
    assert ended["disconnected"]
    assert ended["ended_at"] - cancelled_at < 1


def events(*data: Any) -> bytes:  # noqa: ANN401  # any JSON value
    """Server-sent events, each named by its own `type` where it has one."""
    named = (f"event: {one['type']}\n" if "type" in one else "" for one in data)
    return "".join(f"{name}data: {json.dumps(one)}\n\n" for name, one in zip(named, data, strict=True)).encode()


def openais(text: str, finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def geminis(text: str, finish: str | None = None) -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": [{"text": text}]}} | ({"finishReason": finish} if finish else {})
    usage = {"promptTokenCount": 4, "candidatesTokenCount": 3, "totalTokenCount": 7}
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m", "responseId": "r"}


ANTHROPICS = [
    {
        "type": "message_start",
        "message": {
            "id": "m",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": [],
            "stop_reason": None,
            "usage": {"input_tokens": 4, "output_tokens": 1},
        },
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Half"}},
]
FAILING: dict[str, bytes] = {
    "anthropic": events(*ANTHROPICS, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
    "openai": events(openais("Half"), {"error": {"message": "Overloaded", "type": "server_error", "code": None}}),
    "groq": events(openais("Half"), {"error": {"message": "Overloaded", "type": "server_error", "code": None}}),
    "gemini": events(geminis("Half"), {"error": {"code": 503, "message": "Overloaded", "status": "UNAVAILABLE"}}),
}


@providers
def test_an_error_in_the_middle_of_a_stream_is_a_failure_that_may_cost(provider: str) -> None:
    pieces: list[str] = []
    with recorder() as provided:
        provided.answer = FAILING[provider]
        error = failure(reach({provider: provided.url}), streamed(provider, pieces.append))
    assert pieces == ["Half"]
    assert error.may_cost


def ask(provider: str, answer: bytes | dict[str, Any], call: ModelCall) -> RawReply:
    with recorder() as provided:
        provided.answer = answer
        return reach({provider: provided.url}).start(call).result()


def test_gemini_may_end_with_its_last_text() -> None:
    reply = ask("gemini", events(geminis("A "), geminis("b.", "STOP")), streamed("gemini"))
    assert (reply.text, reply.finish_reason, reply.usage) == ("A b.", "stop", Usage(4, 3))


def test_a_text_about_finish_reasons_does_not_end_geminis_stream() -> None:
    text = 'Its last chunk has "finishReason": "STOP".'
    with recorder() as provided:
        provided.answer = events(geminis(text))
        assert failure(reach({"gemini": provided.url}), streamed("gemini")).code == "malformed_reply"


@pytest.mark.parametrize("plain", [False, True], ids=["stream", "plain"])
def test_a_server_that_tells_no_usage_is_charged_an_upper_bound(plain: bool) -> None:
    call = streamed("openai")
    stream = events(openais("Short "), openais("text.", "stop")) + b"data: [DONE]\n\n"
    message = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Short text."}}
    whole = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [message]}
    reply = ask("openai", whole if plain else stream, replace(call, on_text=None) if plain else call)
    assert reply.text == "Short text."
    assert reply.estimated
    assert reply.usage == Usage(call.prompt_bytes, len("Short text."))
    assert reply.cost_usd
    assert price(call.model, reply.usage) <= reply.cost_usd < call.worst_case_usd
