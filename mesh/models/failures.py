"""Classification: whatever LiteLLM raises into a `ModelCallError` with a stable code.

By status, not by class: the same fault is another class for each provider (Groq's 401 is a BadRequestError,
Anthropic's 529 an InternalServerError).
"""

from collections.abc import Iterator, Mapping

from mesh.errors import ModelCallError

_BY_STATUS = {
    400: ("bad_request", "The provider refused the request as malformed."),
    401: ("not_authorized", "The provider refused the key."),
    403: ("not_authorized", "The provider refused access."),
    404: ("model_not_found", "The provider does not know the model."),
    408: ("timeout", "The provider timed out."),
    413: ("context_too_long", "The request is too large for the provider."),
    422: ("malformed_reply", "The provider's answer could not be read."),
    429: ("rate_limited", "The provider's rate limit or quota is used up."),
    529: ("overloaded", "The provider is overloaded."),
}


def classify(error: Exception) -> ModelCallError:
    """The failure that `error` means; never its text, which may quote the prompt."""
    name = type(error).__name__
    if isinstance(error, TimeoutError) or name == "Timeout":
        return ModelCallError("timeout", "The model did not answer in time.", may_cost=True)
    if name == "ContextWindowExceededError":
        return ModelCallError("context_too_long", "The prompt is longer than the model's context.", status=400)
    if name == "APIConnectionError":
        refused = not _NEVER_CONNECTED.isdisjoint(_lineage(error))
        return ModelCallError("connection_failed", "The provider cannot be reached.", may_cost=not refused)
    status = getattr(error, "status_code", None)
    if not isinstance(status, int):
        return ModelCallError("malformed_reply", f"The provider's answer could not be read ({name}).", may_cost=True)
    code, detail = _BY_STATUS.get(status, ("provider_error", "The provider failed."))
    return ModelCallError(
        code,
        f"{detail} (HTTP {status})",
        status=status,
        retry_after_seconds=_retry_after(error),
        may_cost=code == "malformed_reply",
    )


_NEVER_CONNECTED = frozenset({"ClientConnectorError", "ConnectError", "ConnectionRefusedError"})


def _lineage(error: BaseException) -> Iterator[str]:
    """The names of the classes of `error` and of all that it was raised from."""
    seen: BaseException | None = error
    while seen is not None:
        yield type(seen).__name__
        seen = seen.__cause__ or seen.__context__


def _retry_after(error: Exception) -> float | None:
    """`Retry-After` in seconds (RFC 9110, section 10.2.3); its date form is rare enough to be taken as absent."""
    headers: Mapping[str, str] = getattr(error, "litellm_response_headers", None) or {}
    value = headers.get("retry-after")
    try:
        return float(value) if value else None
    except ValueError:
        return None
