"""What Schemathesis cannot know of this service by its document; loaded by schemathesis.toml.

Well-formed requests must be accepted, but for reasons that no schema can say.  Schemathesis' own check knows statuses
only; this one looks at the problem, so that a 422 for a length or a pattern is found.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import schemathesis

LONGEST_QUERY = 3_000

# Codes of problems, and of their faults: about things that are there, or not, and how parts of a request meet.
_BEYOND_SCHEMAS = {
    "invalid_cursor",
    "invalid_period",
    "idempotency_key_reused",
    "precondition_failed",
    "unknown_model",
    "not_a_service_key",
    "in_the_past",
    "int_type",  # 5.0, which is an integer to JSON Schema, and not here
}


@schemathesis.hook
def filter_query(_context: schemathesis.HookContext, query: Mapping[str, Any] | None) -> bool:
    """Leave out addresses that are too long for the server before the application, which answers 414."""
    return len(urlencode(query or {}, doseq=True)) < LONGEST_QUERY


@schemathesis.hook
def before_call(_context: schemathesis.HookContext, case: "schemathesis.Case[Any]", _kwargs: dict[str, Any]) -> None:
    """Have streams as server-sent events: of lines of JSON it awaits the end, which a task's stream need not have."""
    if (case.query or {}).get("format") == "ndjson":
        case.query["format"] = "sse"


@schemathesis.check
def well_formed_requests_are_accepted(
    _context: schemathesis.CheckContext, response: schemathesis.Response, case: "schemathesis.Case[Any]"
) -> None:
    """400, 412 and 422 are for what is malformed, or for a reason beyond schemas."""
    meta = case.meta
    if meta is None or not meta.generation.mode.is_positive or response.status_code not in {400, 412, 422}:
        return
    if "Last-Event-ID" in (case.headers or {}) or "last_event_id" in (case.query or {}):
        return  # the number of an event that may not be there
    problem: dict[str, Any] = response.json()
    reasons = {fault["code"] for fault in problem.get("errors", [])} or {problem["code"]}
    assert reasons <= _BEYOND_SCHEMAS, f"Refused although it fits the document: {problem}"
