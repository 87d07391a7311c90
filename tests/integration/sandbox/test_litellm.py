"""Each provider's wire format, as LiteLLM takes it: paths, plain and streamed replies, schemas, usage, errors."""

import asyncio
from typing import Any

import pytest

from mesh.sandbox.exchange import tokens
from tests.integration.sandbox.conftest import MODELS, Complete, Run
from tests.sandbox import Sandbox, assert_valid

pytestmark = [
    pytest.mark.timeout(60),
    # LiteLLM's own types make pydantic warn while a stream is read.
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince211"),
    pytest.mark.filterwarnings("ignore:Item '.*' on TypedDict class '.*' is using the `ReadOnly` qualifier"),
]

PATHS = {
    "anthropic": "/anthropic/v1/messages",
    "openai": "/openai/v1/chat/completions",
    "gemini": "/gemini/v1beta/models/gemini-3.8-flash:generateContent",
    "groq": "/groq/openai/v1/chat/completions",
}
SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "state": {"type": "string", "enum": ["open", "done"]},
        "notes": {"type": "array", "items": {"$ref": "#/$defs/note"}},
    },
    "required": ["title", "state", "notes"],
    "additionalProperties": False,
    "$defs": {
        "note": {
            "type": "object",
            "properties": {"text": {"type": "string"}, "weight": {"type": "number"}},
            "required": ["text", "weight"],
            "additionalProperties": False,
        }
    },
}
RESPONSE_FORMAT = {"type": "json_schema", "json_schema": {"name": "ticket", "schema": SCHEMA, "strict": True}}

providers = pytest.mark.parametrize("provider", MODELS)


async def _streamed(complete: Complete, provider: str, **more: Any) -> tuple[str, Any, Any]:  # noqa: ANN401  # LiteLLM's
    text, finish, usage = "", None, None
    async for chunk in await complete(provider, stream=True, **more):
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
        usage = getattr(chunk, "usage", None) or usage
    return text, finish, usage


@providers
def test_a_plain_call(provider: str, complete: Complete, sandbox: Sandbox, run: Run) -> None:
    reply = run(complete(provider))
    [call] = sandbox.calls()
    assert call["path"] == PATHS[provider]
    assert call["model"] in MODELS[provider]
    assert (call["status"], call["fault"], call["disconnected"]) == (200, None, False)
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage.prompt_tokens == tokens(len("Be brief.Write a short text.")) == call["prompt_tokens"]
    assert reply.usage.completion_tokens == tokens(len(reply.choices[0].message.content)) == call["completion_tokens"]
    assert reply.usage.prompt_tokens_details.cached_tokens == 0


@providers
def test_a_streamed_call_says_and_counts_the_same(
    provider: str, complete: Complete, sandbox: Sandbox, run: Run
) -> None:
    plain = run(complete(provider))
    text, finish, usage = run(_streamed(complete, provider))
    assert text == plain.choices[0].message.content
    assert finish == "stop"
    assert usage.prompt_tokens == plain.usage.prompt_tokens
    assert usage.completion_tokens == plain.usage.completion_tokens
    first, second = sandbox.calls()
    assert first["prompt_digest"] == second["prompt_digest"]
    assert second["stream"]


@providers
def test_a_schema_is_answered_with_an_instance(provider: str, complete: Complete, run: Run) -> None:
    reply = run(complete(provider, response_format=RESPONSE_FORMAT))
    assert_valid(reply.choices[0].message.content, SCHEMA)


@providers
def test_a_schema_is_answered_with_an_instance_when_streamed(provider: str, complete: Complete, run: Run) -> None:
    text, _, _ = run(_streamed(complete, provider, response_format=RESPONSE_FORMAT))
    assert_valid(text, SCHEMA)


@pytest.mark.parametrize("stream", [False, True])
def test_an_older_claude_is_asked_by_a_forced_tool(stream: bool, complete: Complete, run: Run) -> None:
    more = {"model": "anthropic/claude-3-haiku-20240307", "response_format": RESPONSE_FORMAT}
    if stream:
        text, _, _ = run(_streamed(complete, "anthropic", **more))
    else:
        text = run(complete("anthropic", **more)).choices[0].message.content
    assert_valid(text, SCHEMA)


def test_the_same_prompt_has_one_digest_with_every_provider(complete: Complete, sandbox: Sandbox, run: Run) -> None:
    for provider in MODELS:
        run(complete(provider))
    assert len({call["prompt_digest"] for call in sandbox.calls()}) == 1


@providers
def test_max_tokens_cuts_the_reply(provider: str, complete: Complete, run: Run) -> None:
    reply = run(complete(provider, max_tokens=5))
    assert reply.choices[0].finish_reason == "length"
    assert reply.usage.completion_tokens == 5


def test_the_step_marker_is_kept(complete: Complete, sandbox: Sandbox, run: Run) -> None:
    run(complete("openai", extra_headers={"X-Mesh-Call": "call_1"}))
    assert [call["call"] for call in sandbox.calls()] == ["call_1"]


@providers
@pytest.mark.parametrize(("kind", "status"), [("403", 403), ("404", 404), ("429;2", 429), ("500", 500), ("503", 503)])
def test_an_error_comes_with_its_status(
    provider: str,
    kind: str,
    status: int,
    complete: Complete,
    litellm: Any,  # noqa: ANN401  # a module
    run: Run,
) -> None:
    with pytest.raises(litellm.exceptions.openai.OpenAIError) as caught:
        run(complete(provider, extra_headers={"X-Sandbox-Fault": kind}))
    assert caught.value.status_code == status


@providers
def test_retry_after_reaches_the_caller(provider: str, complete: Complete, litellm: Any, run: Run) -> None:  # noqa: ANN401  # a module
    with pytest.raises(litellm.RateLimitError) as caught:
        run(complete(provider, extra_headers={"X-Sandbox-Fault": "429;2"}))
    assert caught.value.litellm_response_headers["retry-after"] == "2"


@providers
def test_context_overflow_is_recognised(provider: str, complete: Complete, litellm: Any, run: Run) -> None:  # noqa: ANN401  # a module
    """LiteLLM 1.106.2 does not know Groq's words for it: there it is a plain 400 that carries the code."""
    kind = litellm.BadRequestError if provider == "groq" else litellm.ContextWindowExceededError
    with pytest.raises(kind, match="context_length_exceeded" if provider == "groq" else None):
        run(complete(provider, extra_headers={"X-Sandbox-Fault": "context_length"}))


@providers
def test_a_blocked_reply_has_no_content(provider: str, complete: Complete, run: Run) -> None:
    reply = run(complete(provider, extra_headers={"X-Sandbox-Fault": "content_block"}))
    assert not reply.choices[0].message.content
    assert reply.choices[0].finish_reason == "content_filter"


@providers
def test_a_cancelled_call_is_recorded_as_disconnected(
    provider: str, complete: Complete, sandbox: Sandbox, run: Run
) -> None:
    async def cancelled() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await complete(provider, extra_headers={"X-Sandbox-Fault": "hang"})

    run(cancelled())
    [call] = sandbox.ended(1)
    assert (call["disconnected"], call["status"], call["fault"]) == (True, 0, "hang")
