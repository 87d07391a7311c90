"""Classification: whatever LiteLLM raises into a `ModelCallError` with a stable code.

By what came over the wire, not by LiteLLM's class or status, which differ by provider: a refused connection is an
InternalServerError with status 500 for three of four, a body that is no JSON likewise, Anthropic's 529 too, and Groq's
401 is a BadRequestError.  The exceptions beneath tell (measured against the sandbox, litellm 1.106.2).
"""

from collections.abc import Iterator, Mapping

import httpx
from aiohttp import ClientConnectorError, ClientPayloadError

from mesh.errors import ModelCallError

_BY_STATUS = {
    400: ("bad_request", "The provider refused the request as malformed."),
    401: ("not_authorized", "The provider refused the key."),
    403: ("not_authorized", "The provider refused access."),
    404: ("model_not_found", "The provider does not know the model."),
    408: ("timeout", "The provider timed out."),
    413: ("context_too_long", "The request is too large for the provider."),
    429: ("rate_limited", "The provider's rate limit or quota is used up."),
    529: ("overloaded", "The provider is overloaded."),
}

# Google refuses a key that is wrong or has expired with the status of a malformed request.
_ABOUT_THE_KEY = "api key"

# Whatever a provider says, a step is asked for again after an hour at most.
MOST_PATIENCE_SECONDS = 3600.0

# What LiteLLM makes up where the provider sent no error status; every other one without an answer is its own refusal.
_MADE_UP = (None, 422, 500)


def classify(error: Exception, provider: str = "") -> ModelCallError:
    """The failure that `error` of `provider` means; never its text, which may quote the prompt."""
    # Streams fail with a wrapper around it, whose status may be made up; what is beneath is as with any call.
    meant = getattr(error, "original_exception", None) or error
    name = type(meant).__name__
    if isinstance(error, TimeoutError) or name == "Timeout":
        return ModelCallError("timeout", "The model did not answer in time.", may_cost=True)
    # Groq's words for it are unknown to LiteLLM, but its code is in the text.
    if name == "ContextWindowExceededError" or "context_length_exceeded" in str(error):
        return ModelCallError("context_too_long", "The prompt is longer than the model's context.", status=400)
    lineage = list(_lineage(error))
    refusal = next((e.response for e in lineage if isinstance(e, httpx.HTTPStatusError)), None)
    status = refusal.status_code if refusal is not None else getattr(meant, "status_code", None)
    if refusal is None and status in _MADE_UP:
        return _broken(lineage)
    if provider == "gemini" and status == 400 and _ABOUT_THE_KEY in str(error).lower():
        status = 401
    code, detail = _BY_STATUS.get(status or 0, ("provider_error", "The provider failed."))
    return ModelCallError(
        code, f"{detail} (HTTP {status})", status=status, retry_after_seconds=_retry_after(refusal or error)
    )


def _broken(lineage: list[BaseException]) -> ModelCallError:
    """No error status was answered: the connection failed, or what came cannot be read."""
    if any(isinstance(error, ClientConnectorError) for error in lineage):
        return ModelCallError("connection_failed", "The provider cannot be reached.")
    if any(isinstance(error, ClientPayloadError) for error in lineage):
        return ModelCallError("malformed_reply", "The provider's answer broke off.", may_cost=True)
    if any(isinstance(error, httpx.TransportError) for error in lineage):
        return ModelCallError("connection_failed", "The connection to the provider broke.", may_cost=True)
    return ModelCallError("malformed_reply", "The provider's answer could not be read.", may_cost=True)


def _lineage(error: BaseException) -> Iterator[BaseException]:
    """`error` and all that it was raised from."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _retry_after(answer: httpx.Response | Exception) -> float | None:
    """`Retry-After` in seconds (RFC 9110, section 10.2.3); its date form is rare enough to be taken as absent."""
    headers: Mapping[str, str] = getattr(answer, "headers", None) or {}
    value = headers.get("retry-after")
    try:
        seconds = float(value) if value else None
    except ValueError:
        return None
    return min(seconds, MOST_PATIENCE_SECONDS) if seconds is not None and seconds >= 0 else None
