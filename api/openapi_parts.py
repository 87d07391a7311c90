"""What the OpenAPI document says in the same words everywhere: errors, headers, variables of paths, credentials.

api.openapi puts it together with what is said of each operation.
"""

from typing import Any, NamedTuple

from api.examples import AGENT_ID, KEY_ID, MEMORY_ID, NETWORK_ID, TASK_ID
from api.operations import RequestHeader
from mesh.costs.budgets import Kind

BASE = "/api/mesh"
DESCRIPTION = """\
Networks of language-model agents that work on tasks together.

Credentials go into the header `X-API-Key`, or `Authorization: Bearer`; with `MESH_AUTH=local` none are needed from the
same machine. Unknown parameters and unknown fields are refused. Every answer has a header `X-Request-ID`: the request's
own, if it brings one of up to 128 letters, digits and `._:-`, else a new one. Instants are RFC 3339 in UTC; money is in
US dollars. Lists go on with `cursor=` the `next_cursor` of the page before, as long as that is not null.
"""


class Refusal(NamedTuple):
    """An error status: its component's name, its title and code as an example, and when it is answered."""

    name: str
    title: str
    code: str
    description: str


REFUSALS = {
    400: Refusal("Malformed", "Bad Request", "malformed_request", "A parameter or the JSON cannot be read."),
    401: Refusal("Unauthenticated", "Unauthorized", "unauthenticated", "No credentials, or none that hold."),
    403: Refusal(
        "Forbidden", "Forbidden", "forbidden", "The key's role or scopes do not allow it, or a foreign page asks."
    ),
    404: Refusal("NotFound", "Not Found", "not_found", "There is no such thing, or it is not the caller's."),
    408: Refusal("Slow", "Request Timeout", "request_timeout", "The body did not come to its end in time."),
    409: Refusal("Conflict", "Conflict", "conflict", "It does not fit the present state."),
    412: Refusal("Stale", "Precondition Failed", "precondition_failed", "It has changed since it was read."),
    413: Refusal("TooLarge", "Request Entity Too Large", "too_large", "The body is too large."),
    415: Refusal("NotJson", "Unsupported Media Type", "unsupported_media_type", "The body does not say it is JSON."),
    422: Refusal("Invalid", "Unprocessable Entity", "validation_failed", "Well-formed, but invalid; see `errors`."),
    429: Refusal("TooMany", "Too Many Requests", "too_many_requests", "More than is allowed at once."),
    503: Refusal("Unavailable", "Service Unavailable", "unavailable", "A needed part is down for the moment."),
}


def _text(description: str, **schema: object) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string", **schema}}


HEADERS: dict[str, Any] = {
    "X-Request-ID": _text("The request's id, as in the log."),
    "Location": _text("Where the new thing is from now on.", format="uri-reference"),
    "ETag": _text("The version, for If-Match and If-None-Match."),
    "Retry-After": {"description": "Seconds to wait before trying again.", "schema": {"type": "integer", "minimum": 0}},
    "WWW-Authenticate": _text("How to send a key."),
    "Idempotency-Replayed": _text("`true`: this is the answer that the first request got.", enum=["true"]),
}

REQUEST_HEADERS: dict[RequestHeader, dict[str, Any]] = {
    RequestHeader.IDEMPOTENCY_KEY: _text(
        "Makes repeating safe: within 24 hours the same key with the same body is given the first answer again.",
        pattern="^[!-~]{1,255}$",
    )
    | {"example": "autumn-sale-1"},
    RequestHeader.IF_MATCH: _text("Only if the thing still has this ETag; else 412."),
    RequestHeader.IF_NONE_MATCH: _text("304 without a body if it still has this ETag."),
    RequestHeader.LAST_EVENT_ID: _text(
        "The number of the last event seen, 0 for all of them; goes before `last_event_id`.", pattern="^[0-9]{0,9}$"
    )
    | {"example": "0"},
}


def _id(kind: str, example: str) -> dict[str, Any]:
    return {"schema": {"type": "string", "pattern": f"^{kind}_[0-9a-z]{{26}}$"}, "example": example}


VARIABLES: dict[str, dict[str, Any]] = {
    "network_id": _id("network", NETWORK_ID),
    "agent_id": _id("agent", AGENT_ID),
    "task_id": _id("task", TASK_ID),
    "memory_id": _id("memory", MEMORY_ID),
    "key_id": _id("key", KEY_ID),
    "api_key": _text("A key's id, or the whole key.", minLength=1, pattern="^[^/]+$") | {"example": KEY_ID},
    "kinds": {
        "description": "Whose spending is limited.",
        "schema": {"type": "string", "enum": [f"{kind}s" for kind in Kind]},
        "example": "networks",
    },
    "subject": _text("A user's, network's, key's or task's id.", minLength=1, pattern="^[^/]+$")
    | {"example": NETWORK_ID},
}

CREDENTIALS: dict[str, Any] = {
    "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "Bearer": {"type": "http", "scheme": "bearer", "description": "The same key."},
}
TICKET: dict[str, Any] = {
    "Ticket": {"type": "apiKey", "in": "query", "name": "ticket", "description": "From POST /stream-tickets."}
}
