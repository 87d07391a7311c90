"""Statistics on the wire: what is asked reaches the service, and the answers have the names that were promised."""

from datetime import UTC, datetime

import pytest
from werkzeug.test import TestResponse

from mesh.costs.views import Query
from tests.unit.api.fakes import NETWORK_ID, FakeMesh, wire

COST = {"total_cost", "per_model", "per_user", "per_network", "time_period"}
USAGE = {
    "total_calls",
    "successful_calls",
    "failed_calls",
    "per_model",
    "average_latency",
    "api_calls",
    "time_period",
}


def ask(mesh: FakeMesh, path: str) -> TestResponse:
    return mesh.app().test_client().get(f"/api/mesh/stats/{path}", headers={"X-API-Key": "user-key"})


@pytest.mark.parametrize(("path", "names"), [("cost", COST), ("usage", USAGE)])
def test_answers_have_these_fields_and_a_series_when_asked_for(path: str, names: set[str]) -> None:
    mesh = FakeMesh()
    assert wire(ask(mesh, path)).keys() == names
    assert wire(ask(mesh, f"{path}?interval=day")).keys() == names | {"series"}
    assert wire(ask(mesh, f"{path}?interval=day"))["series"][0]["date"] == "2026-11-22"


def test_money_is_a_number() -> None:
    answer = ask(FakeMesh(), "cost")
    assert '"total_cost":0.1,"per_model":{"gpt-4o":0.1}' in answer.text


def test_every_parameter_reaches_the_service() -> None:
    mesh = FakeMesh()
    given = f"from=2026-11-01T01:00:00%2B01:00&to=2026-11-02T00:00:00Z&network_id={NETWORK_ID}&model=gpt-4o"
    ask(mesh, f"usage?{given}&user_id=bob&interval=day")
    start, end = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC)
    assert mesh.statistics.asked == [Query(start, end, NETWORK_ID, "gpt-4o", "bob", daily=True)]


@pytest.mark.parametrize(
    "given",
    [
        "from=yesterday",
        "to=2026-11-02",
        "from=1",
        "network_id=n",
        "interval=hour",
        "model=",
        "user_id=a%20b",
        "limit=1",
    ],
)
def test_what_cannot_be_read_is_400_and_asks_nothing(given: str) -> None:
    mesh = FakeMesh()
    answer = ask(mesh, f"cost?{given}")
    assert (answer.status_code, wire(answer)["code"]) == (400, "malformed_request")
    assert mesh.statistics.asked == []
