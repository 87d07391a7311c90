"""Statistics from outside: who sees what, what is refused, and requests that are counted while a server ends."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from mesh.db import engine as engines
from mesh.db.unit_of_work import Database
from tests.integration.api.conftest import Service, Start
from tests.integration.costs.calls import Call, store

pytestmark = pytest.mark.timeout(60)


def spend(service: Service, *calls: Call) -> None:
    engine = engines.create(service.database_url, name="test")
    store(Database(engine), calls)
    engine.dispose()


def test_everybody_sees_what_they_spent_and_administrators_see_it_all(service: Service) -> None:
    ann, bob = service.user("ann"), service.user("bob")
    network_id = ann.post("/networks", json={"name": "Campaigns"}).json()["network_id"]
    mail = service.user("mail.service", role="service", networks=[network_id])
    now = datetime.now(UTC)
    of_ann = Call(now, "ann", network_id, cost_usd=Decimal("0.85"))
    of_bob = Call(now, "bob", model="gemini-2.0", state="failed", cost_usd=Decimal("0.43"))
    spend(service, of_ann, of_bob)
    cost = service.admin.get("/stats/cost").json()
    time_period = cost.pop("time_period")
    assert cost == {
        "total_cost": 1.28,
        "per_model": {"gpt-4o": 0.85, "gemini-2.0": 0.43},
        "per_user": {"ann": 0.85, "bob": 0.43},
        "per_network": {network_id: 0.85, "none": 0.43},
    }
    start, end = (datetime.fromisoformat(instant) for instant in time_period.split(" to "))
    assert now - timedelta(days=31) < start <= now - timedelta(days=30)
    assert now < end
    usage = service.admin.get("/stats/usage").json()
    assert (usage["total_calls"], usage["successful_calls"], usage["failed_calls"]) == (2, 1, 1)
    assert usage["per_model"] == {"gpt-4o": 1, "gemini-2.0": 1}
    assert usage["average_latency"] == {"gpt-4o": 0.5}
    totals = [caller.get("/stats/cost").json()["total_cost"] for caller in (ann, bob, mail)]
    assert totals == [0.85, 0.43, 0.85]
    assert service.admin.get("/stats/cost?user_id=bob").json()["per_user"] == {"bob": 0.43}
    assert bob.get(f"/stats/cost?network_id={network_id}").json()["total_cost"] == 0


def test_what_may_not_be_asked_is_refused(service: Service) -> None:
    ann = service.user("ann")
    for path in ("/stats/cost", "/stats/usage"):
        assert service.client().get(path).status_code == 401
        assert service.user("eve", "create").get(path).status_code == 403
        assert ann.get(f"{path}?user_id=bob").json()["code"] == "forbidden"
        for wrong in ("from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "from=0001-01-01T00:00:00Z&interval=day"):
            answer = ann.get(f"{path}?{wrong}")
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid_period")


def test_requests_are_counted_and_stored_when_the_server_ends(start: Start) -> None:
    first = start()
    ann = first.user("ann")
    for _ in range(3):
        ann.get("/networks")
    ann.post("/networks", json={"name": "Campaigns"})
    for client in (ann, first.admin):
        client.close()  # a connection that is kept alive delays the end
    first.process.terminate()
    first.process.wait(timeout=20)
    second = start()
    counted = second.admin.get("/stats/usage?user_id=ann").json()["api_calls"]
    assert counted == {"read": 3, "write": 1, "generate": 0}
