"""Budgets from outside: who may set and see which, and what they say."""

import pytest

from mesh.security.token import key_id_of
from tests.integration.api.conftest import Service


def test_an_owner_limits_a_network_and_a_task(service: Service) -> None:
    ann = service.user("ann")
    network_id = ann.post("/networks", json={"name": "Campaigns", "budget_usd": 5}).json()["network_id"]
    path = f"/budgets/networks/{network_id}"
    of_network = {"limit_usd": 5.0, "period": "total", "spent_usd": 0.0, "reserved_usd": 0.0, "resets_at": None}
    assert ann.get(path).json() == of_network
    changed = ann.put(path, json={"limit_usd": 7.25, "period": "month"})
    assert changed.status_code == 200
    assert (changed.json()["limit_usd"], changed.json()["period"]) == (7.25, "month")
    assert changed.json()["resets_at"].endswith("-01T00:00:00.000Z")
    held = {"task": "Write.", "auto_process": False, "budget_usd": 0.5}
    task_id = ann.post(f"/networks/{network_id}/tasks", json=held).json()["task_id"]
    assert ann.get(f"/budgets/tasks/{task_id}").json()["limit_usd"] == 0.5
    assert ann.delete(f"/budgets/tasks/{task_id}").status_code == 204
    assert ann.get(f"/budgets/tasks/{task_id}").status_code == 404
    assert ann.delete(f"/budgets/tasks/{task_id}").status_code == 404


def test_users_and_keys_are_limited_by_administrators_and_see_their_own(service: Service) -> None:
    ann, bob = service.user("ann"), service.user("bob")
    key_id = key_id_of(ann.headers["X-API-Key"])
    for path in ("/budgets/users/ann", f"/budgets/keys/{key_id}"):
        assert ann.put(path, json={"limit_usd": 1}).status_code == 403
        assert ann.get(path).status_code == 404
        assert service.admin.put(path, json={"limit_usd": 1, "period": "day"}).status_code == 200
        assert ann.get(path).json()["period"] == "day"
        assert bob.get(path).status_code == 404
        assert ann.delete(path).status_code == 403
        assert service.admin.delete(path).status_code == 204


def test_nobody_learns_of_others_networks_and_tasks(service: Service) -> None:
    ann, bob = service.user("ann"), service.user("bob")
    network_id = ann.post("/networks", json={"name": "Campaigns"}).json()["network_id"]
    for subject in (f"networks/{network_id}", "networks/network_unknown", "tasks/task_unknown", "keys/key_unknown"):
        assert bob.get(f"/budgets/{subject}").status_code == 404
    assert bob.put(f"/budgets/networks/{network_id}", json={"limit_usd": 1}).status_code == 404
    assert service.user("eve", "read").put("/budgets/users/eve", json={"limit_usd": 1}).status_code == 403


@pytest.mark.parametrize(
    "body", [{}, {"limit_usd": -1}, {"limit_usd": "1"}, {"limit_usd": 1, "period": "week"}, {"limit_usd": 1, "x": 1}]
)
def test_a_budget_that_makes_no_sense_is_refused(service: Service, body: dict[str, object]) -> None:
    assert service.admin.put("/budgets/users/ann", json=body).status_code == 422


def test_another_kind_of_budget_is_unknown(service: Service) -> None:
    assert service.admin.get("/budgets/planets/mars").status_code == 404
