"""What a call's end says of its model, for the breakers (contract, section 5)."""

from typing import Literal

from mesh.errors import ModelCallError

Verdict = Literal["failure", "neither", "take_out"]

# By `ModelCallError.code`; one that is not here counts as a failure.
VERDICTS: dict[str, Verdict] = {
    "rate_limited": "failure",
    "timeout": "failure",
    "overloaded": "failure",
    "provider_error": "failure",
    "connection_failed": "failure",
    "malformed_reply": "failure",
    # The request is at fault, or we stopped it.
    "bad_request": "neither",
    "context_too_long": "neither",
    "cancelled": "neither",
    "no_time_left": "neither",
    # The provider works, and did what it does with such a prompt; another prompt may fare better.
    "content_blocked": "neither",
    "invalid_reply": "neither",
    # No later try can go better until a person has done something.
    "not_authorized": "take_out",
    "model_not_found": "take_out",
    "wrong_dimensions": "take_out",
}


def verdict(error: ModelCallError) -> Verdict:
    """Whether `error` counts against its model, says nothing of it, or takes it out at once."""
    return VERDICTS.get(error.code, "failure")
