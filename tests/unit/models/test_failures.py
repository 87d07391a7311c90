"""Classification: what an exception of LiteLLM's means, whatever its class and the status that LiteLLM gives it."""

import aiohttp
import httpx
import pytest
from aiohttp.client_reqrep import ConnectionKey

from mesh.models.failures import MOST_PATIENCE_SECONDS, classify


class APIConnectionError(Exception):
    """LiteLLM's name for much that went wrong without an answer."""

    status_code = 500


class InternalServerError(Exception):
    status_code = 500


class BadRequestError(Exception):
    def __init__(self, text: str = "SECRET PROMPT", status_code: int = 400) -> None:
        super().__init__(text)
        self.status_code = status_code


class ContextWindowExceededError(BadRequestError):
    """LiteLLM's own."""


class Timeout(Exception):  # noqa: N818  # LiteLLM's name
    status_code = 408


def refused(status: int, **headers: str) -> Exception:
    """As LiteLLM raises it: its own class and a status of its liking on top of httpx's error."""
    request = httpx.Request("POST", "http://provider.test")
    answer = httpx.Response(status, headers=headers, request=request)
    return chained(InternalServerError("SECRET PROMPT"), httpx.HTTPStatusError("no", request=request, response=answer))


def chained(error: Exception, *causes: Exception) -> Exception:
    for above, beneath in zip([error, *causes], causes, strict=False):
        above.__cause__ = beneath
    return error


def never_connected() -> Exception:
    return aiohttp.ClientConnectorError(
        ConnectionKey("provider.test", 443, True, True, None, None, None), ConnectionRefusedError()
    )


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "bad_request"),
        (401, "not_authorized"),
        (403, "not_authorized"),
        (404, "model_not_found"),
        (413, "context_too_long"),
        (418, "provider_error"),
        (422, "provider_error"),
        (429, "rate_limited"),
        (500, "provider_error"),
        (503, "provider_error"),
        (529, "overloaded"),
    ],
)
def test_the_providers_own_status_decides_and_a_refused_call_is_free(status: int, code: str) -> None:
    failure = classify(refused(status))
    assert (failure.code, failure.status, failure.may_cost) == (code, status, False)


@pytest.mark.parametrize("value", ["Wed, 01 Jan 2025 00:00:00 GMT", "soon", ""])
def test_retry_after_is_understood_in_seconds_only(value: str) -> None:
    assert classify(refused(429, **{"Retry-After": value})).retry_after_seconds is None
    assert classify(refused(429, **{"Retry-After": "0.5"})).retry_after_seconds == 0.5


@pytest.mark.parametrize("error", [TimeoutError(), Timeout()])
def test_a_timeout_may_cost(error: Exception) -> None:
    failure = classify(error)
    assert (failure.code, failure.may_cost) == ("timeout", True)


@pytest.mark.parametrize("above", [APIConnectionError(), InternalServerError()])
def test_a_connection_that_never_stood_costs_nothing_and_a_broken_one_may(above: Exception) -> None:
    for beneath, may_cost in [(never_connected(), False), (aiohttp.ClientOSError(), True)]:
        failure = classify(chained(above, httpx.ConnectError("no"), beneath))
        assert (failure.code, failure.status, failure.may_cost) == ("connection_failed", None, may_cost)


@pytest.mark.parametrize(
    "error",
    [
        chained(InternalServerError(), httpx.ReadError("no"), aiohttp.ClientPayloadError()),
        chained(InternalServerError(), ValueError("no JSON")),
        chained(APIConnectionError(), ValueError("no JSON")),
        chained(BadRequestError(status_code=422), ValueError("no JSON")),
        KeyError("choices"),
    ],
)
def test_an_answer_that_cannot_be_read_may_cost(error: Exception) -> None:
    failure = classify(error)
    assert (failure.code, failure.may_cost) == ("malformed_reply", True)


def test_what_litellm_refuses_by_itself_is_free() -> None:
    failure = classify(BadRequestError())
    assert (failure.code, failure.may_cost) == ("bad_request", False)


@pytest.mark.parametrize("error", [ContextWindowExceededError(), BadRequestError("code: context_length_exceeded")])
def test_a_prompt_that_is_too_long_is_told_from_a_malformed_request(error: Exception) -> None:
    assert classify(error).code == "context_too_long"


@pytest.mark.parametrize("words", ["API key not valid. Please pass a valid API key.", "API key expired. Renew it."])
def test_a_key_that_google_refuses_is_told_from_a_malformed_request(words: str) -> None:
    """By its words, as elsewhere a prompt may be quoted."""
    error = BadRequestError(words)
    assert classify(error, "gemini").code == "not_authorized"
    assert classify(error, "openai").code == "bad_request"


@pytest.mark.parametrize("error", [refused(500), BadRequestError(), APIConnectionError("SECRET"), ValueError("SECRET")])
def test_the_providers_words_go_nowhere(error: Exception) -> None:
    assert "SECRET" not in str(classify(error))


@pytest.mark.parametrize(
    ("value", "seconds"), [("inf", MOST_PATIENCE_SECONDS), ("1e12", MOST_PATIENCE_SECONDS), ("nan", None), ("-1", None)]
)
def test_no_provider_can_put_a_step_off_for_ever(value: str, seconds: float | None) -> None:
    assert classify(refused(429, **{"Retry-After": value})).retry_after_seconds == seconds
