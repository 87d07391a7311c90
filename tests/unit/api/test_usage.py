"""Counting requests: who is known is counted, and nothing counted is lost while the database is away."""

from datetime import timedelta

import pytest

from api.usage import Counts, Requests
from mesh.errors import UnavailableError
from mesh.security.policy import RouteClass
from mesh.testing import FakeClock
from tests.unit.api.fakes import NETWORK_ID, FakeMesh

READ, WRITE = RouteClass.READ, RouteClass.WRITE


class Store:
    """Adds up what it is given; `away`: refuses it."""

    def __init__(self) -> None:
        self.stored = Counts()
        self.away = False

    def __call__(self, counts: Counts) -> None:
        if self.away:
            raise UnavailableError("The database does not answer.")
        self.stored.update(counts)


def test_requests_are_counted_in_their_hour_and_stored_once() -> None:
    store, clock = Store(), FakeClock()
    first = clock()
    requests = Requests(store, clock)
    for seconds in (0, 3599, 1):
        clock.advance(seconds)
        requests.count("ann", READ)
    requests.count("bob", WRITE)
    requests.flush()
    requests.flush()
    second = first + timedelta(hours=1)
    assert store.stored == {(first, "ann", READ): 2, (second, "ann", READ): 1, (second, "bob", WRITE): 1}


def test_what_is_counted_while_the_database_is_away_is_stored_when_it_is_back() -> None:
    store, clock = Store(), FakeClock()
    requests = Requests(store, clock)
    store.away = True
    for _ in range(2):
        requests.count("ann", READ)
        requests.flush()
    assert not store.stored
    store.away = False
    requests.flush()
    assert store.stored == {(clock(), "ann", READ): 2}


@pytest.mark.parametrize(
    ("method", "path", "key", "kind"),
    [
        ("GET", "/networks", "user-key", READ),
        ("GET", f"/networks/{NETWORK_ID}", "user-key", READ),  # 404
        ("POST", "/networks", "user-key", WRITE),  # 415
        ("GET", "/security/api-keys", "user-key", READ),  # 403
        ("GET", "/networks", "no-key", None),  # 401
        ("GET", "/nothing", "user-key", None),
        ("GET", "/health", "user-key", None),
    ],
)
def test_every_request_of_a_known_caller_is_counted_however_it_is_answered(
    method: str, path: str, key: str, kind: RouteClass | None
) -> None:
    mesh = FakeMesh()
    app = mesh.app()
    app.test_client().open(f"/api/mesh{path}", method=method, headers={"X-API-Key": key})
    app.extensions["requests"].flush()
    counted = [(user_id, route_class) for _, user_id, route_class in mesh.statistics.requests]
    assert counted == ([("ann", kind)] if kind else [])
