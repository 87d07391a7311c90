"""The interface's document: it is that of the code, down to each view, and its page needs nothing from elsewhere."""

import ast
import inspect
import json
import re
import textwrap
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from hashlib import sha256
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter

from api.examples import EXAMPLES, members_of
from api.openapi import as_text, document
from api.openapi_parts import REQUEST_HEADERS
from api.operations import OPERATIONS, RequestHeader
from api.resources.streams import Position
from api.schemas import events
from api.schemas.base import Answer, Page, Parameters
from api.schemas.problems import Fault, Problem
from mesh.errors import Problem as FaultOfMesh
from mesh.events import types
from tests.unit.api.fakes import FakeMesh, wire

APP = FakeMesh().app()
DOCUMENT = document(APP)
KEPT = Path(__file__).parents[3] / "docs" / "openapi.json"

STORED = [one for one in vars(types).values() if isinstance(one, type) and issubclass(one, types.Event)]
ANSWERED = [model for model in EXAMPLES if issubclass(model, Answer)]


@dataclass
class Used:
    """What a view's source reads and answers."""

    body: set[Any] = field(default_factory=set)
    query: set[Any] = field(default_factory=set)
    answers: set[Any] = field(default_factory=set)
    headers: set[RequestHeader] = field(default_factory=set)
    locates: bool = False


_HEADER_OF = {
    "expected_versions": RequestHeader.IF_MATCH,
    "_last_event_id": RequestHeader.LAST_EVENT_ID,
    "_cached": RequestHeader.IF_NONE_MATCH,
}


def _learn(called: FunctionType, used: Used) -> None:
    """Follow the calls in a function, and in helpers of its own module."""
    function = inspect.unwrap(called)
    assert isinstance(function, FunctionType)
    if function is not called:
        used.headers.add(RequestHeader.IDEMPOTENCY_KEY)
    for name, arguments in _calls(function):
        if name == "body":
            used.body |= _models(arguments[0], function)
        elif name == "parameters":
            used.query |= _models(arguments[0], function)
        elif name == "no_parameters":
            used.query.add(Parameters)
        elif name in {"answer", "made", "page"}:
            used.answers |= _models(arguments[0], function)
            used.locates |= name == "made"
        elif name in _HEADER_OF:
            used.headers.add(_HEADER_OF[name])
        else:
            helper = function.__globals__.get(name)
            if isinstance(helper, FunctionType) and helper.__module__ == function.__module__:
                _learn(helper, used)


def _calls(function: FunctionType) -> Iterator[tuple[str, list[ast.expr]]]:
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id, node.args


def _models(argument: ast.expr, function: FunctionType) -> set[Any]:
    branches = [argument.body, argument.orelse] if isinstance(argument, ast.IfExp) else [argument]
    return {eval(ast.unparse(branch), function.__globals__) for branch in branches}  # noqa: S307  # our own code


def test_the_kept_document_is_that_of_the_code() -> None:
    assert KEPT.read_text() == as_text(DOCUMENT), "The interface has changed: run `make openapi`."


def test_every_route_has_a_line_and_every_line_a_route() -> None:
    assert {rule.endpoint for rule in APP.url_map.iter_rules()} == OPERATIONS.keys()


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_line_says_what_its_view_reads_and_answers(name: str) -> None:
    operation, used = OPERATIONS[name], Used()
    view = APP.view_functions[name]
    assert isinstance(view, FunctionType)
    _learn(view, used)
    if 304 in operation.answers:
        used.headers.add(RequestHeader.IF_NONE_MATCH)
    assert used.body == ({operation.body} if operation.body else set())
    assert used.query == {operation.query}
    assert used.headers == set(operation.headers)
    assert used.locates == operation.locates
    if not operation.stream:
        assert used.answers == {one for type_ in operation.answers.values() for one in _answered(type_)}


def _answered(type_: object) -> list[Any]:
    if isinstance(type_, type) and issubclass(type_, Page):
        return [type_]
    return list(members_of(type_))


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_says_what_it_does(name: str) -> None:
    found = [one for methods in DOCUMENT["paths"].values() for one in methods.values() if one["operationId"] == name]
    assert len(found) == 1
    assert found[0]["summary"]


def test_every_reference_leads_somewhere_and_names_are_short() -> None:
    references = set(re.findall(r'"\$ref": "#/components/(\w+)/([\w.-]+)"', json.dumps(DOCUMENT)))
    assert references
    for kind, name in references:
        assert name in DOCUMENT["components"][kind]
        assert "__" not in name, "two models have the same name"


@pytest.mark.parametrize("model", ANSWERED, ids=lambda model: model.__name__)
def test_an_answers_example_is_what_its_model_writes(model: type[BaseModel]) -> None:
    written = model.model_validate(EXAMPLES[model]).model_dump(mode="json", exclude_unset=True)
    assert written == EXAMPLES[model]


@pytest.mark.parametrize("event", [one for one in STORED if one is not types.Event], ids=lambda event: event.type)
def test_a_stored_event_is_documented_with_its_fields(event: type[types.Event]) -> None:
    (documented,) = [one for one in events.STORED if one.event == event.type]
    sent = event(**dict.fromkeys(one.name for one in fields(event))).fields()
    assert documented.model_fields.keys() == sent.keys() | events.Stored.model_fields.keys()


def test_a_problem_is_documented_as_it_is_answered() -> None:
    answer = APP.test_client().post("/api/mesh/networks", json={}, headers={"X-API-Key": "user-key"})
    assert wire(answer).keys() == Problem.model_fields.keys()
    assert [one.name for one in fields(FaultOfMesh)] == list(Fault.model_fields)


@pytest.mark.parametrize("path", ["openapi.json", "docs"])
def test_it_is_sent_again_only_when_it_is_another(path: str) -> None:
    client = APP.test_client()
    first = client.get(f"/api/mesh/{path}")
    again = client.get(f"/api/mesh/{path}", headers={"If-None-Match": first.headers["ETag"]})
    assert (first.status_code, again.status_code, again.data) == (200, 304, b"")
    assert client.get(f"/api/mesh/{path}", headers={"If-None-Match": '"other"'}).status_code == 200


def test_it_is_served_as_it_is_made() -> None:
    assert APP.test_client().get("/api/mesh/openapi.json").text == as_text(DOCUMENT)


def test_the_page_shows_every_operation_and_needs_nothing_from_elsewhere() -> None:
    answer = APP.test_client().get("/api/mesh/docs")
    for name in OPERATIONS:
        assert f'<details id="{name}">' in answer.text
    assert not re.search(r"<script|<link|<img|<iframe|src=|url\(|@import", answer.text)
    links = re.findall(r'href="([^"]*)"', answer.text)
    anchors = set(re.findall(r'id="([^"]*)"', answer.text))
    assert {link.removeprefix("#") for link in links} <= anchors | {"openapi.json"}


def test_the_pages_style_is_the_only_thing_its_policy_lets_in() -> None:
    answer = APP.test_client().get("/api/mesh/docs")
    style = answer.text.partition("<style>")[2].partition("</style>")[0]
    policy = answer.headers.get_all("Content-Security-Policy")
    assert len(policy) == 1
    assert policy[0].startswith("default-src 'none'; style-src ")
    assert b64encode(sha256(style.encode()).digest()).decode() in policy[0]
    assert "unsafe" not in policy[0]


def test_what_a_stream_that_is_joined_again_and_a_foreign_page_are_answered_is_documented() -> None:
    paths = DOCUMENT["paths"]
    assert "204" in paths["/networks/{network_id}/tasks/stream"]["post"]["responses"]
    assert all("403" in paths[path]["get"]["responses"] for path in ("/health", "/openapi.json"))


def test_the_greatest_position_is_the_same_in_the_header_and_in_the_query() -> None:
    greatest = TypeAdapter(Position).json_schema()["maximum"]
    pattern = REQUEST_HEADERS[RequestHeader.LAST_EVENT_ID]["schema"]["pattern"]
    assert re.search(pattern, str(greatest))
    assert not re.search(pattern, str(greatest + 1))
