"""Conditional requests: an entity tag changes with what it tags, and what is asked for with one is held against it."""

from dataclasses import dataclass

import pytest
from flask import Flask, Response

from api.answers import expected_versions, tagged
from tests.unit.api.fakes import EXAMPLES, NETWORK_ID, FakeMesh

AGENT = f"/api/mesh/networks/{NETWORK_ID}/agents/{EXAMPLES['agent_id']}"


@dataclass
class View:
    version: int


def _tag(version: int, body: str) -> str:
    with Flask("test").test_request_context():
        return tagged(Response(body), View(version)).headers["ETag"]


def test_a_tag_is_strong_and_changes_with_the_version_and_with_all_that_is_shown() -> None:
    assert _tag(1, "a") == _tag(1, "a")
    assert len({_tag(1, "a"), _tag(2, "a"), _tag(1, "b")}) == 3
    assert not _tag(1, "a").startswith("W/")


@pytest.mark.parametrize("condition", ["{tag}", "W/{tag}", '"x", {tag}', "*"])
def test_who_has_it_already_is_not_sent_it_again(condition: str) -> None:
    client = FakeMesh().app().test_client()
    first = client.get(AGENT, headers={"X-API-Key": "user-key"})
    assert first.headers["Cache-Control"] == "private, no-cache"
    tag = first.headers["ETag"]
    again = client.get(AGENT, headers={"X-API-Key": "user-key", "If-None-Match": condition.format(tag=tag)})
    assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", tag)
    assert client.get(AGENT, headers={"X-API-Key": "user-key", "If-None-Match": '"x"'}).status_code == 200
    assert client.get(AGENT, headers={"If-None-Match": "*"}).status_code == 401


@pytest.mark.parametrize(
    ("if_match", "versions"),
    [
        (None, None),
        ("*", None),
        (_tag(7, "a"), {7}),
        (f"{_tag(7, 'a')}, {_tag(8, 'b')}", {7, 8}),
        (f"W/{_tag(7, 'a')}", set()),  # RFC 9110, 13.1.1: compared strongly
        ('"7"', set()),
        ("", set()),
        ('""', set()),
        (f'"{"9" * 5000}.{"a" * 16}"', set()),
    ],
)
def test_a_change_is_held_against_the_versions_of_the_tags_given(if_match: str | None, versions: object) -> None:
    headers = {} if if_match is None else {"If-Match": if_match}
    with Flask("test").test_request_context(headers=headers):
        assert expected_versions() == versions
