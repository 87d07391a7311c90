"""What requests come to at the services, and how their answers read on the wire."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from werkzeug.test import TestResponse

from mesh.errors import ConflictError, UnavailableError
from mesh.networks.views import AgentConfig, NewNetwork
from mesh.tasks.states import TaskStatus
from mesh.tasks.views import NewTask
from tests.unit.api.fakes import EXAMPLES, NETWORK_ID, TASK_ID, FakeMesh, wire

NETWORK = f"/api/mesh/networks/{NETWORK_ID}"


def _ask(mesh: FakeMesh, method: str, path: str, body: object = None, key: str = "user-key") -> TestResponse:
    return mesh.app().test_client().open(path, method=method, json=body, headers={"X-API-Key": key})


def test_a_name_is_enough_for_a_network() -> None:
    mesh = FakeMesh()
    answer = _ask(mesh, "POST", "/api/mesh/networks", {"name": "Email Campaign Assistant"})
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"/api/mesh/networks/{wire(answer)['network_id']}"
    assert mesh.networks.stored == [NewNetwork("Email Campaign Assistant")]


def test_a_network_reaches_the_service_as_it_was_asked() -> None:
    mesh = FakeMesh()
    agent = {
        "name": "SEO Specialist",
        "type": "seo",
        "model": "claude-3-7-sonnet",
        "parameters": {"temperature": 0.4, "max_tokens": 4000},
        "capabilities": ["keyword_analysis"],
    }
    body = {"name": "x", "agents": [agent], "model_selection": {"cost_sensitive": True}, "budget_usd": 0.1}
    answer = _ask(mesh, "POST", "/api/mesh/networks", body)
    (new,) = mesh.networks.stored
    assert new.agents == (
        AgentConfig(
            "SEO Specialist",
            "seo",
            "claude-3-7-sonnet",
            parameters={"temperature": 0.4, "max_tokens": 4000},
            capabilities=("keyword_analysis",),
        ),
    )
    assert (new.model_selection, new.budget_usd) == ({"cost_sensitive": True}, Decimal("0.1"))
    assert "budget_usd" not in wire(answer), "another limit may have been set since: GET /budgets knows"
    assert wire(answer)["created_at"] == "2026-11-22T09:30:00.125Z"


def test_a_task_is_answered_202_with_its_address_and_exact_instants() -> None:
    mesh = FakeMesh()
    body = {"task": "Write", "deadline": "2026-12-01T01:00:00.25+01:00", "priority": 10, "auto_process": False}
    answer = _ask(mesh, "POST", f"{NETWORK}/tasks", body)
    assert (answer.status_code, answer.headers["Location"]) == (202, f"{NETWORK}/tasks/{TASK_ID}")
    assert wire(answer)["deadline"] == "2026-12-01T00:00:00.250Z"
    assert '"cost_usd":0.000123' in answer.text
    deadline = datetime(2026, 12, 1, 0, 0, 0, 250_000, tzinfo=UTC)
    assert mesh.tasks.stored == [NewTask("Write", deadline=deadline, priority=10, auto_process=False)]


@pytest.mark.parametrize(("status", "code"), [(TaskStatus.PROCESSING, 202), (TaskStatus.COMPLETED, 200)])
def test_process_tells_whether_there_is_anything_left_to_do(status: TaskStatus, code: int) -> None:
    mesh = FakeMesh()
    mesh.tasks.status = status
    assert _ask(mesh, "POST", f"{NETWORK}/tasks/{TASK_ID}/process").status_code == code


def test_task_filters_reach_the_service() -> None:
    mesh = FakeMesh()
    _ask(mesh, "GET", f"{NETWORK}/tasks?status=failed&from=2026-01-01T00:00:00Z&limit=3")
    (asked,) = mesh.tasks.stored
    assert asked == {
        "limit": 4,
        "before": None,
        "status": "failed",
        "created_from": datetime(2026, 1, 1, tzinfo=UTC),
        "created_to": None,
    }


@pytest.mark.parametrize("name", ["type", "memory_type"])
def test_memory_takes_its_type_under_both_names(name: str) -> None:
    mesh = FakeMesh()
    assert wire(_ask(mesh, "POST", f"{NETWORK}/memory", {"content": "x", name: "decision"}))["type"] == "decision"


@pytest.mark.parametrize(
    ("path", "body", "changes"),
    [
        ("", {"name": "y", "timeout_seconds": 5}, {"name": "y", "timeout_seconds": 5}),
        ("", {"model_selection": {"cost_sensitive": True}}, {"model_selection": {"cost_sensitive": True}}),
        ("", {}, {}),
        (f"/agents/{EXAMPLES['agent_id']}", {"agent_config": {"model": None}}, {"model": None}),
        (
            f"/agents/{EXAMPLES['agent_id']}",
            {"agent_config": {"parameters": {"top_p": 1}, "capabilities": []}},
            {"parameters": {"top_p": 1.0}, "capabilities": []},
        ),
        (f"/memory/{EXAMPLES['memory_id']}", {"memory_type": "decision"}, {"type": "decision"}),
        (f"/memory/{EXAMPLES['memory_id']}", {"ttl_seconds": None}, {"ttl_seconds": None}),
    ],
    ids=str,
)
def test_only_what_is_named_reaches_the_service_as_a_change(path: str, body: object, changes: object) -> None:
    mesh = FakeMesh()
    assert _ask(mesh, "PATCH", f"{NETWORK}{path}", body).status_code == 200
    assert [*mesh.networks.stored, *mesh.memory.stored] == [(changes, None)]


def test_a_new_key_is_shown_this_once() -> None:
    answer = _ask(FakeMesh(), "POST", "/api/mesh/security/api-keys", {"user_id": "user123"}, "admin-key")
    assert (answer.status_code, wire(answer)["api_key"]) == (201, "the-whole-key")
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_list_is_read_page_by_page_to_its_end() -> None:
    mesh = FakeMesh()
    seen: list[str] = []
    query: str | None = ""
    pages = 0
    while query is not None:
        page = wire(_ask(mesh, "GET", f"/api/mesh/networks{query}"))
        seen += [item["name"] for item in page["items"]]
        query = page["next_cursor"] and f"?cursor={page['next_cursor']}"
        pages += 1
    assert pages == 3
    assert seen == [f"n{number}" for number in range(120, 0, -1)]


def test_a_cursor_goes_on_with_its_own_list_only() -> None:
    mesh = FakeMesh()
    cursor = wire(_ask(mesh, "GET", "/api/mesh/networks"))["next_cursor"]
    assert _ask(mesh, "GET", f"/api/mesh/networks?cursor={cursor}&limit=7").status_code == 200
    for path, key in ((f"{NETWORK}/agents", "user-key"), ("/api/mesh/networks", "admin-key")):
        answer = _ask(mesh, "GET", f"{path}?cursor={cursor}", key=key)
        assert (answer.status_code, wire(answer)["code"]) == (400, "invalid_cursor")


def test_a_ranked_search_is_one_page() -> None:
    newest = wire(_ask(FakeMesh(), "GET", f"{NETWORK}/memory?limit=2"))
    ranked = wire(_ask(FakeMesh(), "GET", f"{NETWORK}/memory?limit=2&query=x"))
    assert (len(newest["items"]), len(ranked["items"])) == (2, 2)
    assert newest["next_cursor"] is not None
    assert ranked["next_cursor"] is None


@pytest.mark.parametrize(("given", "kept"), [("abc-1.2:3_", True), ("x" * 129, False), ("a b", False), ("ä", False)])
def test_a_sane_request_id_is_kept_and_any_other_replaced(given: str, kept: bool) -> None:
    headers = {"X-Request-ID": given, "X-API-Key": "user-key"}
    answer = FakeMesh().app().test_client().get(NETWORK, headers=headers)
    assert (answer.headers["X-Request-ID"] == given) is kept
    assert wire(answer)["request_id"] == answer.headers["X-Request-ID"]


@pytest.mark.parametrize("path", ["/api/mesh/health", "/api/mesh/nothing", "/", "/api/mesh/networks"])
def test_every_answer_has_the_security_headers(path: str) -> None:
    headers = FakeMesh().app().test_client().get(path, headers={"Origin": "https://elsewhere.example"}).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["X-Frame-Options"] == "DENY"
    assert "Access-Control-Allow-Origin" not in headers


def test_flasks_own_refusals_are_problems_too() -> None:
    client = FakeMesh().app().test_client()
    unknown, method = client.get("/api/mesh/nothing"), client.put("/api/mesh/networks")
    slashes = client.get("/api//mesh/networks")
    assert [(one.status_code, wire(one)["code"]) for one in (unknown, method, slashes)] == [
        (404, "not_found"),
        (405, "method_not_allowed"),
        (404, "not_found"),
    ]
    assert {"GET", "POST"} <= set(method.headers["Allow"].split(", "))
    assert method.content_type == "application/problem+json"


@pytest.mark.parametrize(
    ("error", "status", "code"), [(ConflictError("no"), 409, "conflict"), (UnavailableError("no"), 503, "unavailable")]
)
def test_errors_of_services_have_their_status(error: Exception, status: int, code: str) -> None:
    mesh = FakeMesh()
    mesh.keys.keys = _Raising(error)
    answer = _ask(mesh, "GET", "/api/mesh/networks")
    assert (answer.status_code, wire(answer)["code"]) == (status, code)
    assert ("Retry-After" in answer.headers) is (status == 503)


class _Raising(dict[str, Any]):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def __contains__(self, _key: object) -> bool:
        raise self._error


@pytest.mark.parametrize(("status", "code"), [("healthy", 200), ("degraded", 200), ("unhealthy", 503)])
def test_health_is_503_only_when_no_work_is_accepted(status: str, code: int) -> None:
    mesh = FakeMesh()
    mesh.health.status = status
    for path in ("/api/mesh/health", "/api/mesh/health/ready"):
        answer = _ask(mesh, "GET", path)
        assert (answer.status_code, wire(answer)) == (code, {"status": status})
    assert _ask(mesh, "GET", "/api/mesh/health/live").status_code == 200
