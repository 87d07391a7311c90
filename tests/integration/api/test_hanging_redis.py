"""Submitting for a stream while Redis takes connections and answers nothing."""

import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.integration.api.conftest import Start

# What the permit waits for is the broker's to say; what the hub adds to it is a quarter of a second.
ONCE_SECONDS = 3.0


@pytest.fixture
def hanging_redis() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"


def seconds_to_first_event(client: httpx.Client, network_id: str) -> float:
    began = time.monotonic()
    path = f"/networks/{network_id}/tasks/stream?format=ndjson"
    with client.stream("POST", path, json={"task": "x"}) as answer:
        assert answer.status_code == 200
        assert '"started"' in next(filter(None, answer.iter_lines()))
        return time.monotonic() - began


def test_only_the_first_who_submits_waits_for_it(start: Start, hanging_redis: str) -> None:
    client = start(MESH_REDIS_URL=hanging_redis).admin
    network_id = client.post("/networks", json={"name": "x"}).json()["network_id"]
    first, second = (seconds_to_first_event(client, network_id) for _ in range(2))
    assert second < first / 2 < ONCE_SECONDS / 2
