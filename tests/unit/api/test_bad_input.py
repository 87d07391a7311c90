"""Bad input is answered as a problem that says where, never repeats what was sent, and leaves nothing behind."""

import json
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.unit.api.fakes import EXAMPLES, NETWORK_ID, ROUTES, TASK_ID, FakeMesh, wire

NETWORKS = "/api/mesh/networks"
TASKS = f"{NETWORKS}/{NETWORK_ID}/tasks"
AGENTS = f"{NETWORKS}/{NETWORK_ID}/agents"
MEMORY = f"{NETWORKS}/{NETWORK_ID}/memory"
AGENT_PATH = f"{AGENTS}/{EXAMPLES['agent_id']}"
MEMORY_ID = EXAMPLES["memory_id"]
KEYS = "/api/mesh/security/api-keys"
TICKETS = "/api/mesh/stream-tickets"
AGENT = {"name": "SEO", "type": "seo"}
ADMIN_KEY = {"X-API-Key": "admin-key"}


def _post(mesh: FakeMesh, path: str, body: object, content_type: str | None = "application/json") -> TestResponse:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return mesh.app().test_client().post(path, data=data, content_type=content_type, headers=ADMIN_KEY)


def _deep(levels: int) -> dict[str, Any]:
    return {"a": _deep(levels - 1)} if levels else {}


INVALID = [
    (NETWORKS, {}, "/name"),
    (NETWORKS, {"name": ""}, "/name"),
    (NETWORKS, {"name": " \n"}, "/name"),
    (NETWORKS, {"name": "x" * 201}, "/name"),
    (NETWORKS, {"name": 7}, "/name"),
    (NETWORKS, {"name": None}, "/name"),
    (NETWORKS, {"name": "x\0"}, "/name"),
    (NETWORKS, {"name": "x", "color": "red"}, "/color"),
    (NETWORKS, {"name": "x", "description": "x" * 2_001}, "/description"),
    (NETWORKS, {"name": "x", "max_iterations": 0}, "/max_iterations"),
    (NETWORKS, {"name": "x", "max_iterations": 51}, "/max_iterations"),
    (NETWORKS, {"name": "x", "max_iterations": "5"}, "/max_iterations"),
    (NETWORKS, {"name": "x", "max_iterations": 5.0}, "/max_iterations"),
    (NETWORKS, {"name": "x", "max_iterations": True}, "/max_iterations"),
    (NETWORKS, {"name": "x", "max_iterations": 10**100}, "/max_iterations"),
    (NETWORKS, {"name": "x", "timeout_seconds": 86_401}, "/timeout_seconds"),
    (NETWORKS, {"name": "x", "budget_usd": -1}, "/budget_usd"),
    (NETWORKS, {"name": "x", "budget_usd": "1"}, "/budget_usd"),
    (NETWORKS, {"name": "x", "budget_usd": True}, "/budget_usd"),
    (NETWORKS, {"name": "x", "agents": [AGENT] * 51}, "/agents"),
    (NETWORKS, {"name": "x", "agents": [AGENT, {"name": "y"}]}, "/agents/1/type"),
    (NETWORKS, {"name": "x", "agents": [AGENT | {"type": "Not A Slug"}]}, "/agents/0/type"),
    (NETWORKS, {"name": "x", "agents": [AGENT | {"type": "a.b"}]}, "/agents/0/type"),
    (NETWORKS, {"name": "x", "agents": [AGENT | {"type": "seo\n"}]}, "/agents/0/type"),
    (NETWORKS, {"name": "x", "model_selection": {"task_complexity": "EXTREME"}}, "/model_selection/task_complexity"),
    (NETWORKS, {"name": "x", "shared_context": []}, "/shared_context"),
    (NETWORKS, {"name": "x", "shared_context": _deep(8)}, "/shared_context"),
    (NETWORKS, {"name": "x", "shared_context": {"a": "x" * 65_536}}, "/shared_context"),
    (AGENTS, AGENT, "/agent_config"),
    (AGENTS, {"agent_config": AGENT | {"parameters": {"temperature": 3}}}, "/agent_config/parameters/temperature"),
    (AGENTS, {"agent_config": AGENT | {"parameters": {"max_tokens": 1.5}}}, "/agent_config/parameters/max_tokens"),
    (AGENTS, {"agent_config": AGENT | {"parameters": {"seed": 1}}}, "/agent_config/parameters/seed"),
    (AGENTS, {"agent_config": AGENT | {"capabilities": [""]}}, "/agent_config/capabilities/0"),
    (TASKS, {}, "/task"),
    (TASKS, {"task": "x" * 20_001}, "/task"),
    (TASKS, {"task": "x", "priority": 11}, "/priority"),
    (TASKS, {"task": "x", "priority": 0}, "/priority"),
    (TASKS, {"task": "x", "deadline": "tomorrow"}, "/deadline"),
    (TASKS, {"task": "x", "deadline": "2026-12-01T00:00:00"}, "/deadline"),
    (TASKS, {"task": "x", "deadline": 1_800_000_000}, "/deadline"),
    (TASKS, {"task": "x", "deadline": "1800000000"}, "/deadline"),
    (TASKS, {"task": "x", "deadline": "0001-01-01T00:00:00+23:00"}, "/deadline"),
    (TASKS, {"task": "x", "auto_process": "yes"}, "/auto_process"),
    (TASKS, {"task": "x", "on_behalf_of": "a b"}, "/on_behalf_of"),
    (TASKS, {"task": "x", "context": {"list": ["ok", {"deep": "\ud800"}]}}, "/context/list/1/deep"),
    (TASKS, [], ""),
    (TASKS, "task", ""),
    (MEMORY, {"content": ""}, "/content"),
    (MEMORY, {"content": "x", "type": "rumour"}, "/type"),
    (MEMORY, {"content": "x", "confidence": 1.1}, "/confidence"),
    (MEMORY, {"content": "x", "ttl_seconds": 0}, "/ttl_seconds"),
    (MEMORY, {"content": "x", "type": "fact", "memory_type": "fact"}, "/memory_type"),
    (TICKETS, {}, "/task_id"),
    (TICKETS, {"task_id": "x"}, "/task_id"),
    (KEYS, {"user_id": "a b"}, "/user_id"),
    (KEYS, {"user_id": "a", "role": "king"}, "/role"),
    (KEYS, {"user_id": "a", "scopes": []}, "/scopes"),
    (KEYS, {"user_id": "a", "scopes": ["fly"]}, "/scopes/0"),
    (KEYS, {"user_id": "a", "networks": ["x"]}, "/networks/0"),
    (KEYS, {"user_id": "a", "expires_in_days": 3_651}, "/expires_in_days"),
]


@pytest.mark.parametrize(("path", "body", "pointer"), INVALID, ids=str)
def test_what_does_not_fit_is_422_and_says_where(path: str, body: object, pointer: str) -> None:
    mesh = FakeMesh()
    answer = _post(mesh, path, body)
    problem = wire(answer)
    assert (answer.status_code, answer.content_type) == (422, "application/problem+json")
    assert pointer in [error["pointer"] for error in problem["errors"]], problem
    assert problem["code"] == "validation_failed"
    assert problem["request_id"] == answer.headers["X-Request-ID"]
    assert mesh.stored == 0


INVALID_CHANGES = [
    (f"{NETWORKS}/{NETWORK_ID}", {"name": None}, "/name"),
    (f"{NETWORKS}/{NETWORK_ID}", {"name": ""}, "/name"),
    (f"{NETWORKS}/{NETWORK_ID}", {"budget_usd": 1}, "/budget_usd"),
    (f"{NETWORKS}/{NETWORK_ID}", {"agents": []}, "/agents"),
    (f"{NETWORKS}/{NETWORK_ID}", {"max_iterations": 51}, "/max_iterations"),
    (f"{NETWORKS}/{NETWORK_ID}", {"timeout_seconds": None}, "/timeout_seconds"),
    (f"{NETWORKS}/{NETWORK_ID}", {"shared_context": _deep(8)}, "/shared_context"),
    (AGENT_PATH, {}, "/agent_config"),
    (AGENT_PATH, {"name": "x"}, "/agent_config"),
    (AGENT_PATH, {"agent_config": {"type": "Not A Slug"}}, "/agent_config/type"),
    (AGENT_PATH, {"agent_config": {"type": None}}, "/agent_config/type"),
    (AGENT_PATH, {"agent_config": {"capabilities": ["x"] * 51}}, "/agent_config/capabilities"),
    (AGENT_PATH, {"agent_config": {"colour": "red"}}, "/agent_config/colour"),
    (f"{MEMORY}/{MEMORY_ID}", {"content": None}, "/content"),
    (f"{MEMORY}/{MEMORY_ID}", {"type": "rumour"}, "/type"),
    (f"{MEMORY}/{MEMORY_ID}", {"ttl_seconds": 0}, "/ttl_seconds"),
    (f"{MEMORY}/{MEMORY_ID}", {"version": 7}, "/version"),
]


@pytest.mark.parametrize(("path", "body", "pointer"), INVALID_CHANGES, ids=str)
def test_a_change_that_does_not_fit_is_422_and_says_where(path: str, body: object, pointer: str) -> None:
    mesh = FakeMesh()
    answer = mesh.app().test_client().patch(path, json=body, headers=ADMIN_KEY)
    assert answer.status_code == 422
    assert pointer in [error["pointer"] for error in wire(answer)["errors"]]
    assert mesh.stored == 0


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"{", "application/json", 400, "malformed_request"),
        (b"", "application/json", 400, "malformed_request"),
        (b'{"name": "x", "name": "y"}', "application/json", 400, "malformed_request"),
        (b'{"name": "x", "shared_context": {"a": NaN}}', "application/json", 400, "malformed_request"),
        (b'{"name": "x", "shared_context": {"a": 1e999}}', "application/json", 400, "malformed_request"),
        (b'{"a":' * 20_000 + b"1" + b"}" * 20_000, "application/json", 400, "malformed_request"),
        (b"[" * 900_000, "application/json", 400, "malformed_request"),
        (b'{"name": "' + b"x" * 1_000_000 + b'"}', "application/json", 413, "too_large"),
        (b'{"name": "x"}', "text/plain", 415, "unsupported_media_type"),
        (b'{"name": "x"}', None, 415, "unsupported_media_type"),
        (b'{"name": "x"}', "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (b'{"name": "x"}', "application/json; charset=utf-16", 415, "unsupported_media_type"),
    ],
    ids=lambda value: f"{value!r}"[:30] + f"...{value!r}"[-12:],
)
def test_what_cannot_be_read_is_refused_by_its_kind(
    body: bytes, content_type: str | None, status: int, code: str
) -> None:
    mesh = FakeMesh()
    answer = _post(mesh, NETWORKS, body, content_type)
    assert (answer.status_code, wire(answer)["code"]) == (status, code)
    assert answer.content_type == "application/problem+json"
    assert mesh.stored == 0


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=201",
        "limit=x",
        "limit=5.0",
        "limit=%2B5",
        "limit=1_0",
        "limit=%D9%A5",
        "limit=",
        "limit=1&limit=2",
        "colour=red",
        "cursor=forged",
        "cursor=%00",
        "cursor=",
        "cursor=" + "x" * 1_001,
    ],
)
def test_a_parameter_that_cannot_be_read_is_400(query: str) -> None:
    answer = FakeMesh().app().test_client().get(f"{NETWORKS}?{query}", headers=ADMIN_KEY)
    assert (answer.status_code, answer.content_type) == (400, "application/problem+json")
    assert wire(answer)["code"] in {"malformed_request", "invalid_cursor"}


@pytest.mark.parametrize(
    "query",
    [
        "status=done",
        "from=yesterday",
        "to=2026-01-01",
        "from=2026-01-01T00:00:00",
        "from=1767225600",
        "to=1767225600.5",
        "from=2026-01-01T00:00Z",
        "to=0001-01-01T00:00:00%2B23:00",
    ],
)
def test_a_filter_that_cannot_be_read_is_400(query: str) -> None:
    answer = FakeMesh().app().test_client().get(f"{TASKS}?{query}", headers=ADMIN_KEY)
    assert (answer.status_code, wire(answer)["code"]) == (400, "malformed_request")


@pytest.mark.parametrize("wait", ["0", "-1", "30.1", "31", "1e2", "1_0", "nan", "x", "", "5&wait=5"])
def test_a_wait_is_seconds_up_to_30(wait: str) -> None:
    answer = FakeMesh().app().test_client().get(f"{TASKS}/{TASK_ID}?wait={wait}", headers=ADMIN_KEY)
    assert (answer.status_code, wire(answer)["code"]) == (400, "malformed_request")


@pytest.mark.parametrize(("operation", "method", "path"), ROUTES)
def test_a_parameter_that_a_route_does_not_know_is_400(operation: str, method: str, path: str) -> None:
    mesh = FakeMesh()
    answer = mesh.app().test_client().open(f"{path}?colour=red", method=method, headers=ADMIN_KEY)
    assert answer.status_code == 400, operation
    assert "/colour" in [error["pointer"] for error in wire(answer)["errors"]]
    assert mesh.stored == 0


@pytest.mark.parametrize("path", [path for _, method, path in ROUTES if method == "POST"])
@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b" ", "application/json", 400),
        (b'{"colour": "red"}', "application/json", 422),
        (b"[]", "application/json", 422),
        (b'{"x": "' + b"x" * 1_000_000 + b'"}', "application/json", 413),
        (b"{}", "text/plain", 415),
    ],
    ids=["broken", "blank", "unknown", "array", "large", "text"],
)
def test_no_route_overlooks_a_body(path: str, body: bytes, content_type: str, status: int) -> None:
    mesh = FakeMesh()
    assert _post(mesh, path, body, content_type).status_code == status
    assert mesh.stored == 0


@pytest.mark.parametrize("what", ["process", "cancel"])
def test_a_body_that_says_nothing_is_fine_where_none_is_needed(what: str) -> None:
    path = f"{TASKS}/{TASK_ID}/{what}"
    for body, content_type in ((b"", None), (b"", "application/json"), (b"{}", "application/json")):
        assert _post(FakeMesh(), path, body, content_type).status_code < 300


def test_what_was_refused_is_not_repeated() -> None:
    marker = "sesame-open"
    for body in ({"name": 7, "budget_usd": marker}, {"name": "x", "model_selection": {"task_complexity": marker}}):
        assert marker not in _post(FakeMesh(), NETWORKS, body).text
    assert marker not in _post(FakeMesh(), NETWORKS, f'{{"name": {marker}'.encode()).text


def test_a_body_with_thousands_of_faults_is_answered_shortly() -> None:
    answer = _post(FakeMesh(), NETWORKS, {"name": "x"} | {f"field{number}": 1 for number in range(5_000)})
    assert answer.status_code == 422
    assert len(wire(answer)["errors"]) == 20
