"""Each fault as it looks on the wire, from a real process; and how faults are asked for."""

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.sandbox import Sandbox, start_sandbox

CALLS: dict[str, tuple[str, dict[str, str], dict[str, Any]]] = {
    "anthropic": ("/v1/messages", {"x-api-key": "k"}, {"model": "claude", "max_tokens": 4000}),
    "openai": ("/chat/completions", {"Authorization": "Bearer k"}, {"model": "gpt-4o"}),
    "groq": ("/chat/completions", {"Authorization": "Bearer k"}, {"model": "openai/gpt-oss-120b"}),
}
FINISH = {"anthropic": "message_stop", "openai": "[DONE]", "gemini": "finishReason", "groq": "[DONE]"}
PROVIDERS = ["anthropic", "openai", "gemini", "groq"]

providers = pytest.mark.parametrize("provider", PROVIDERS)
plain_and_stream = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])


def _request(sandbox: Sandbox, provider: str, fault: str = "", *, stream: bool = False) -> dict[str, Any]:
    base = sandbox.env[f"{provider.upper()}_API_BASE"]
    extra = {"X-Sandbox-Fault": fault} if fault else {}
    if provider == "gemini":
        method = "streamGenerateContent?alt=sse" if stream else "generateContent"
        contents = [{"role": "user", "parts": [{"text": "Write a text."}]}]
        url, headers = f"{base}/models/gemini:{method}", {"x-goog-api-key": "k"}
        return {"url": url, "headers": headers | extra, "json": {"contents": contents}}
    path, headers, body = CALLS[provider]
    messages = [{"role": "user", "content": "Write a text."}]
    return {"url": base + path, "headers": headers | extra, "json": body | {"messages": messages, "stream": stream}}


def _post(
    sandbox: Sandbox, provider: str, fault: str = "", *, stream: bool = False, seconds: float = 5
) -> httpx.Response:
    return httpx.post(**_request(sandbox, provider, fault, stream=stream), timeout=seconds)


@providers
@plain_and_stream
@pytest.mark.parametrize(
    ("fault", "status"),
    [("400", 400), ("401", 401), ("403", 403), ("404", 404), ("408", 408), ("429", 429), ("quota", 429), ("500", 500),
     ("503", 503), ("529", 529), ("context_length", 400)],
)  # fmt: skip
def test_errors_have_their_status_and_the_providers_shape(
    provider: str, stream: bool, fault: str, status: int, sandbox: Sandbox
) -> None:
    """Google says of a key that it makes the request invalid."""
    if (provider, fault) == ("gemini", "401"):
        status = 400
    answer = _post(sandbox, provider, fault, stream=stream)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]
    assert "retry-after" not in answer.headers
    [call] = sandbox.calls()
    assert (call["status"], call["fault"], call["completion_tokens"]) == (status, fault, 0)


def test_a_used_up_quota_is_told_from_a_rate_limit(sandbox: Sandbox) -> None:
    assert _post(sandbox, "openai", "quota").json()["error"]["code"] == "insufficient_quota"
    assert _post(sandbox, "openai", "429").json()["error"]["code"] == "rate_limit_exceeded"


@providers
def test_a_rate_limit_says_when_to_come_back_if_told_to(provider: str, sandbox: Sandbox) -> None:
    assert _post(sandbox, provider, "429;7").headers["retry-after"] == "7"


@plain_and_stream
@pytest.mark.parametrize("fault", ["reset", "refuse"])
def test_a_reset_connection_answers_nothing(stream: bool, fault: str, sandbox: Sandbox) -> None:
    with pytest.raises(httpx.ReadError):
        _post(sandbox, "openai", fault, stream=stream)
    [call] = sandbox.ended(1)
    assert (call["status"], call["fault"], call["disconnected"]) == (0, fault, False)


@plain_and_stream
def test_a_hanging_call_answers_nothing_in_time(stream: bool, sandbox: Sandbox) -> None:
    with pytest.raises(httpx.ReadTimeout):
        _post(sandbox, "anthropic", "hang", stream=stream, seconds=0.3)
    assert sandbox.ended(1)[0]["disconnected"]


def test_a_call_that_hangs_for_a_time_is_answered_after_it(sandbox: Sandbox) -> None:
    began = time.monotonic()
    assert _post(sandbox, "anthropic", "hang;0.2").is_success
    assert time.monotonic() - began >= 0.2


@providers
@plain_and_stream
def test_an_answer_that_hangs_halfway(provider: str, stream: bool, sandbox: Sandbox) -> None:
    received: list[bytes] = []
    request = _request(sandbox, provider, "hang_stream", stream=stream)
    with httpx.stream("POST", **request, timeout=0.3) as answer, pytest.raises(httpx.ReadTimeout):
        received.extend(answer.iter_raw())
    assert received or not stream  # extend keeps what came before the error
    assert FINISH[provider].encode() not in b"".join(received)
    [call] = sandbox.ended(1)
    assert (call["disconnected"], call["status"]) == (True, 200)


@providers
@plain_and_stream
def test_an_answer_that_is_dropped_halfway(provider: str, stream: bool, sandbox: Sandbox) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        _post(sandbox, provider, "drop_stream", stream=stream)
    [call] = sandbox.ended(1)
    assert (call["disconnected"], call["fault"]) == (False, "drop_stream")


@providers
def test_a_truncated_stream_ends_cleanly_without_a_finish(provider: str, sandbox: Sandbox) -> None:
    whole, cut = _post(sandbox, provider, stream=True), _post(sandbox, provider, "truncate", stream=True)
    assert FINISH[provider] in whole.text
    assert FINISH[provider] not in cut.text
    assert len(cut.text) < len(whole.text)
    full, half = sandbox.calls()
    assert 0 < half["completion_tokens"] < full["completion_tokens"]


@plain_and_stream
def test_a_malformed_body_is_not_json(stream: bool, sandbox: Sandbox) -> None:
    answer = _post(sandbox, "groq", "malformed_body", stream=stream)
    assert answer.status_code == 200
    assert answer.text.startswith("<html>")


def _reply_to_schema(sandbox: Sandbox, fault: str) -> str:
    request = _request(sandbox, "openai", fault)
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    request["json"]["response_format"] = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    text: str = httpx.post(**request).json()["choices"][0]["message"]["content"]
    return text


def test_malformed_json_comes_in_a_proper_answer(sandbox: Sandbox) -> None:
    with pytest.raises(json.JSONDecodeError):
        json.loads(_reply_to_schema(sandbox, "malformed_json"))


def test_json_that_does_not_fit_the_schema(sandbox: Sandbox) -> None:
    assert "a" not in json.loads(_reply_to_schema(sandbox, "invalid_schema"))


def test_a_slow_call_and_a_slow_stream(sandbox: Sandbox) -> None:
    began = time.monotonic()
    _post(sandbox, "openai", "slow;0.2")
    assert time.monotonic() - began >= 0.2
    began = time.monotonic()
    chunks = _post(sandbox, "openai", "slow_stream;0.02", stream=True).text.count('"delta":{"content":')
    assert time.monotonic() - began >= 0.02 * (chunks - 1)


def test_an_unknown_fault_is_refused_with_the_kinds(sandbox: Sandbox) -> None:
    answer = _post(sandbox, "openai", "explode")
    assert answer.status_code == 400
    assert "drop_stream" in answer.json()["error"]["message"]


def test_a_faults_file_decides_by_provider_and_count(tmp_path: Path) -> None:
    file = tmp_path / "faults.toml"
    file.write_text('[[faults]]\nmatch = { provider = "groq", nth = 2 }\nfault = "503"\n', "utf-8")
    with start_sandbox(faults=file) as sandbox:
        assert [_post(sandbox, "groq").status_code for _ in range(3)] == [200, 503, 200]
        assert _post(sandbox, "openai").status_code == 200


def test_rules_can_be_changed_at_run_time(sandbox: Sandbox) -> None:
    sandbox.fault("500", times=1, model="gpt")
    assert [_post(sandbox, "openai").status_code for _ in range(2)] == [500, 200]
    sandbox.fault("500", prompt="Write a")
    sandbox.clear_faults()
    assert _post(sandbox, "openai").status_code == 200


def test_rules_that_cannot_be_read_are_refused_and_change_nothing(sandbox: Sandbox) -> None:
    sandbox.fault("500")
    answer = httpx.put(f"{sandbox.url}/sandbox/faults", json=[{"match": {"colour": "red"}, "fault": "500"}])
    assert answer.status_code == 400
    assert "colour" in answer.json()["error"]["message"]
    assert _post(sandbox, "openai").status_code == 500
