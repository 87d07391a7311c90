"""Verdicts: what a call's end says of its model."""

import pytest

from mesh.errors import InvalidReplyError, ModelCallError
from mesh.models import failures
from mesh.models.verdicts import VERDICTS, verdict


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("rate_limited", "failure"),
        ("provider_error", "failure"),
        ("overloaded", "failure"),
        ("timeout", "failure"),
        ("connection_failed", "failure"),
        ("malformed_reply", "failure"),
        ("bad_request", "neither"),
        ("context_too_long", "neither"),
        ("cancelled", "neither"),
        ("content_blocked", "neither"),
        (InvalidReplyError.code, "neither"),
        ("not_authorized", "take_out"),
        ("model_not_found", "take_out"),
        ("something_new", "failure"),
    ],
)
def test_only_what_the_provider_did_counts_against_a_model(code: str, expected: str) -> None:
    assert verdict(ModelCallError(code, "")) == expected


def test_every_status_that_is_told_apart_has_a_verdict_of_its_own() -> None:
    assert {code for code, _ in failures._BY_STATUS.values()} <= set(VERDICTS)
