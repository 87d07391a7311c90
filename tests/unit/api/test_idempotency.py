"""Idempotency-Key: what is sent again is answered again, and made once."""

import pytest
from werkzeug.test import TestResponse

from mesh.security.principal import Principal, Role
from tests.unit.api.fakes import ALL, NETWORK_ID, ROUTES, TASK_ID, FakeMesh, wire

NETWORK = f"/api/mesh/networks/{NETWORK_ID}"
CREATING = {
    "networks.create": {"name": "x"},
    "agents.add": {"agent_config": {"name": "x", "type": "x"}},
    "tasks.submit": {"task": "x"},
    "memory.add": {"content": "x"},
    "security.create_key": {"user_id": "bob"},
    "tickets.create": {"task_id": TASK_ID},
}
CASES = [(path, CREATING[operation]) for operation, _, path in ROUTES if operation in CREATING]


def _post(mesh: FakeMesh, path: str, body: object, key: str = "k1", caller: str = "admin-key") -> TestResponse:
    headers = {"X-API-Key": caller, "Idempotency-Key": key}
    return mesh.app().test_client().post(path, json=body, headers=headers)


@pytest.mark.parametrize(("path", "body"), CASES)
def test_the_same_request_gets_the_first_answer_again_and_makes_nothing(path: str, body: object) -> None:
    mesh = FakeMesh()
    first = _post(mesh, path, body)
    stored = mesh.stored
    again = _post(mesh, path, body)
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.status_code == first.status_code
    for name in ("Location", "ETag", "Content-Type", "Cache-Control"):
        assert again.headers.get(name) == first.headers.get(name)
    assert mesh.stored == stored
    assert {**wire(again), "api_key": "", "ticket": ""} == {**wire(first), "api_key": "", "ticket": ""}


@pytest.mark.parametrize(("path", "body"), CASES)
def test_another_body_under_the_same_key_is_422(path: str, body: dict[str, object]) -> None:
    mesh = FakeMesh()
    _post(mesh, path, body)
    answer = _post(mesh, path, {**body, "more": 1})
    assert (answer.status_code, wire(answer)["code"]) == (422, "idempotency_key_reused")


def test_a_key_counts_for_one_caller_and_one_address() -> None:
    mesh = FakeMesh()
    mesh.keys.keys["bob"] = Principal("bob", Role.USER, ALL)
    for path, caller in (
        (f"{NETWORK}/tasks", "user-key"),
        (f"{NETWORK}/tasks", "bob"),
        (f"{NETWORK[:-1]}2/tasks", "user-key"),
    ):
        assert "Idempotency-Replayed" not in _post(mesh, path, {"task": "x"}, caller=caller).headers
    assert len(mesh.tasks.stored) == 3


@pytest.mark.parametrize(("path", "body"), [case for case in CASES if NETWORK_ID in case[0]])
def test_what_is_in_a_network_is_not_given_again_to_who_may_not_see_it(path: str, body: object) -> None:
    mesh = FakeMesh()
    _post(mesh, path, body)
    mesh.networks.gone = True
    answer = _post(mesh, path, body)
    assert (answer.status_code, wire(answer)["code"]) == (404, "not_found")


def test_a_ticket_is_made_with_the_connection_that_its_request_has() -> None:
    mesh = FakeMesh()
    _post(mesh, "/api/mesh/stream-tickets", {"task_id": TASK_ID})
    assert mesh.tickets.within is not None


def test_what_was_refused_may_be_tried_again() -> None:
    mesh = FakeMesh()
    assert _post(mesh, "/api/mesh/networks", {"name": ""}).status_code == 422
    assert _post(mesh, "/api/mesh/networks", {"name": "x"}).status_code == 201


def test_a_secret_is_neither_stored_nor_shown_again() -> None:
    mesh = FakeMesh()
    for path, body, member in (
        ("/api/mesh/security/api-keys", {"user_id": "bob"}, "api_key"),
        ("/api/mesh/stream-tickets", {"task_id": TASK_ID}, "ticket"),
    ):
        secret = wire(_post(mesh, path, body))[member]
        assert secret
        assert secret not in repr(mesh.idempotency.kept)
        assert wire(_post(mesh, path, body))[member] != secret
    assert wire(_post(mesh, "/api/mesh/security/api-keys", {"user_id": "bob"}))["api_key"] is None


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "é"])
def test_a_key_that_is_none_is_400(key: str) -> None:
    mesh = FakeMesh()
    answer = _post(mesh, "/api/mesh/networks", {"name": "x"}, key)
    assert (answer.status_code, wire(answer)["code"]) == (400, "malformed_request")
    assert mesh.stored == 0
