"""Every example of the document is what its own schema allows: of parameters, bodies, answers, errors and streams."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # comes without types, by way of litellm

from api.openapi import document
from tests.unit.api.fakes import FakeMesh

DOCUMENT: dict[str, Any] = document(FakeMesh().app())
SSE, NDJSON = "text/event-stream", "application/x-ndjson"


def examples(found: object, where: str = "", mimetype: str = "") -> Iterator[tuple[str, str, Any]]:
    """Each example's place and format, and what it stands in."""
    if isinstance(found, list):
        found = dict(enumerate(found))
    if isinstance(found, dict):
        if "example" in found:
            yield where, mimetype, found
        for name, part in found.items():
            yield from examples(part, f"{where}/{name}", str(name))


def values(mimetype: str, example: Any) -> list[Any]:  # noqa: ANN401  # any JSON
    """What has to fit the schema: of a stream, each event."""
    if mimetype == NDJSON:
        return [json.loads(line) for line in example.splitlines()]
    if mimetype == SSE:
        blocks = [dict(line.split(": ", 1) for line in block.splitlines()) for block in example.split("\n\n") if block]
        return [{"event": block["event"], "data": block["data"]} for block in blocks]
    return [example]


FOUND = list(examples({"paths": DOCUMENT["paths"], "responses": DOCUMENT["components"]["responses"]}))


@pytest.mark.parametrize(("mimetype", "described"), [one[1:] for one in FOUND], ids=[one[0] for one in FOUND])
def test_an_example_is_what_its_schema_allows(mimetype: str, described: dict[str, Any]) -> None:
    schema = Draft202012Validator(described["schema"] | {"components": DOCUMENT["components"]})
    for value in values(mimetype, described["example"]):
        schema.validate(value)


def test_every_body_and_every_answer_in_json_but_the_document_itself_has_an_example() -> None:
    operations = {one["operationId"]: one for methods in DOCUMENT["paths"].values() for one in methods.values()}
    bare = {
        name
        for name, operation in operations.items()
        for body in (operation.get("requestBody", {}), *operation["responses"].values())
        for mimetype, content in body.get("content", {}).items()
        if "example" not in content and mimetype != "text/html"
    }
    assert bare == {"openapi.document"}
