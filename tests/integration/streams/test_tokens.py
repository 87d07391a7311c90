"""Texts of running steps over real processes: API, worker, provider; for watchers who come first, late, and again."""

import json
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
import pytest
from redis import Redis
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

from mesh.events.texts import WATCHED_SECONDS, watched_key
from tests.integration.workers.conftest import Fleet, fleet_on
from tests.sandbox import Sandbox, sandbox, sandbox_process
from tests.system import eventually, part

__all__ = ["sandbox", "sandbox_process"]

pytestmark = pytest.mark.xdist_group("tokens")

# A reply of the sandbox comes in about 20 pieces.
CHUNK_SECONDS = 0.04


@dataclass
class Watcher:
    """A client that believes what it is sent, and notes where that does not fit together."""

    texts: dict[str, str] = field(default_factory=dict)
    kinds: list[str] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def take(self, event: dict[str, Any]) -> None:
        kind, step_id = event["event"], event.get("step_id", "")
        self.kinds.append(kind)
        if kind not in ("token", "partial"):
            self.numbers.append(event["sequence"])
        if kind == "step_started" or (kind == "fallback" and event["restarted"]):
            self.texts[step_id] = ""
        elif kind == "partial":
            self.texts[step_id] = event["text"]
        elif kind == "token":
            if event["offset"] != len(self.texts.get(step_id, "")):
                self.wrong.append(f"{event['offset']} after {len(self.texts.get(step_id, ''))} characters")
            self.texts[step_id] = self.texts.get(step_id, "") + event["text"]
        elif kind == "step_completed":
            self.outputs[step_id] = event["output"]


class Site:
    """The API, a worker, and those who watch tasks."""

    def __init__(self, fleet: Fleet, url: str) -> None:
        self.fleet = fleet
        self.url = url
        self.network_id = fleet.network()

    @contextmanager
    def open(self, method: str, path: str, last: int | None = None, **sent: object) -> Iterator[httpx.Response]:
        headers = {"Accept": "application/x-ndjson"} | ({} if last is None else {"Last-Event-ID": str(last)})
        with httpx.stream(method, self.url + path, headers=headers, timeout=20, **sent) as answer:  # type: ignore[arg-type]  # httpx's own
            assert answer.status_code in (200, 204), answer.read()
            yield answer

    def watch(self, task_id: str, watcher: Watcher, *, hang_up: float = 0.0, kind: str = "stream") -> Watcher:
        """Read to the end, hanging up by chance after an event and coming back."""
        chance = random.Random(task_id + str(hang_up))
        while True:
            last = watcher.numbers[-1] if watcher.numbers else None
            with self.open("GET", f"/tasks/{task_id}/{kind}", last) as answer:
                if answer.status_code == 204:
                    return watcher
                for line in filter(None, answer.iter_lines()):
                    watcher.take(json.loads(line))
                    if watcher.kinds[-1] == "complete":
                        return watcher
                    if chance.random() < hang_up:
                        break

    @contextmanager
    def submitted(self) -> Iterator[tuple[str, Iterator[dict[str, Any]]]]:
        """A task submitted for watching, and its events; the connection is the first watcher."""
        path = f"/networks/{self.network_id}/tasks/stream"
        with self.open("POST", path, json={"task": "Write a text."}) as answer:
            events = (json.loads(line) for line in answer.iter_lines() if line)
            yield answer.headers["Location"].rpartition("/")[2], events


@pytest.fixture(scope="module")
def running(
    postgres_url: str,
    migrated_database: str,
    redis_url: str,
    sandbox_process: Sandbox,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    name = f"tokens_{uuid4().hex}"
    with create_engine(postgres_url, poolclass=NullPool, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {migrated_database}"))
    database_url = make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
    home = tmp_path_factory.mktemp("tokens")
    with fleet_on(database_url, redis_url.removesuffix("/0") + "/3", sandbox_process, home) as fleet:
        log = home / "api.log"
        local = {**fleet.variables(), "MESH_AUTH": "local"}
        fleet.stack.enter_context(part("api", "--port", "0", log=log, variables=local))
        fleet.serving(fleet.worker())
        eventually(lambda: "Listening on" in log.read_text(), every=0.02)
        yield Site(fleet, log.read_text().partition("Listening on ")[2].split()[0] + "/api/mesh")


@pytest.fixture
def site(running: Site, sandbox: Sandbox) -> Site:
    """The module's system without calls and faults; the provider takes its time."""
    sandbox.latency(0, chunk=CHUNK_SECONDS)
    return running


def test_every_watcher_reads_every_text_without_gap_or_repetition(site: Site) -> None:
    first, everybody = Watcher(), [Watcher() for _ in range(12)]
    with ThreadPoolExecutor(len(everybody)) as pool, site.submitted() as (task_id, events):

        def come(number: int) -> Watcher:
            time.sleep(number * 0.1)  # whatever goes on at that moment
            return site.watch(task_id, everybody[number], hang_up=0.1 * (number % 3))

        readings = [pool.submit(come, number) for number in range(len(everybody))]
        for event in events:
            first.take(event)
        for reading in readings:
            reading.result(timeout=20)
    assert first.numbers == list(range(1, len(first.numbers) + 1))
    assert first.kinds.count("token") > 10
    assert "partial" not in first.kinds
    for watcher in (first, *everybody):
        assert watcher.wrong == []
        assert watcher.numbers == first.numbers
        assert all(output.startswith(watcher.texts[step_id]) for step_id, output in watcher.outputs.items())
    for steady in everybody[::3]:  # who never hung up has a whole text, or came when it was finished
        assert all(steady.texts[step_id] in ("", output) for step_id, output in steady.outputs.items())
    assert {step_id: first.texts[step_id] for step_id in first.outputs} == first.outputs
    assert any("partial" in watcher.kinds for watcher in everybody)
    assert all(call["stream"] for call in site.fleet.sandbox.calls())


@pytest.mark.parametrize(
    ("fault", "reason", "same"), [("truncate", "malformed_reply", False), ("invalid_schema", "invalid_reply", True)]
)
def test_a_text_that_breaks_off_or_is_refused_is_void_and_begins_anew(
    site: Site, fault: str, reason: str, *, same: bool
) -> None:
    site.fleet.sandbox.latency(0, chunk=0.005)
    site.fleet.sandbox.fault(fault, stream=True, nth=2)
    watcher = Watcher()
    fallbacks = []
    with site.submitted() as (_, events):
        for event in events:
            watcher.take(event)
            fallbacks += [event] if event["event"] == "fallback" else []
    [fallback] = fallbacks
    assert (fallback["reason"], fallback["restarted"]) == (reason, True)
    assert (fallback["from_model"] == fallback["to_model"]) is same
    assert watcher.wrong == []
    assert watcher.texts[fallback["step_id"]] == watcher.outputs[fallback["step_id"]]
    assert watcher.kinds[-1] == "complete"


def test_models_stream_to_nobody_who_does_not_watch(site: Site) -> None:
    task_id = site.fleet.submit(site.network_id)
    with ThreadPoolExecutor() as pool:
        waits = f"{site.url}/networks/{site.network_id}/tasks/{task_id}?wait=20"
        waiting = pool.submit(httpx.get, waits, timeout=30)
        reader = site.watch(task_id, Watcher(), kind="events")
        assert waiting.result().json()["status"] == "completed"
    assert "token" not in reader.kinds
    assert len(site.fleet.sandbox.calls(stream=False)) == 3
    assert site.fleet.sandbox.calls(stream=True) == []


def test_nothing_is_left_in_redis_but_a_mark_that_expires(site: Site) -> None:
    site.fleet.sandbox.latency(0)
    with site.submitted() as (task_id, events), Redis.from_url(site.fleet.mesh.settings.redis_url) as redis:
        assert [event["event"] for event in events][-1] == "complete"
        assert 0 < redis.ttl(watched_key(task_id)) <= WATCHED_SECONDS
        eventually(lambda: list(redis.scan_iter("mesh:text:*")) == [], 5, every=0.02)


def test_a_task_submitted_again_with_its_key_is_joined(site: Site) -> None:
    path = f"/networks/{site.network_id}/tasks/stream"
    site.fleet.sandbox.latency(0)
    headers = {"Idempotency-Key": uuid4().hex, "Accept": "application/x-ndjson"}
    asked = [httpx.post(site.url + path, json={"task": "Once."}, headers=headers, timeout=20) for _ in range(2)]
    assert asked[0].headers["Location"] == asked[1].headers["Location"]
    assert asked[1].headers["Idempotency-Replayed"] == "true"
    ids = [{json.loads(line)["task_id"] for line in one.text.splitlines() if line} for one in asked]
    assert ids[0] == ids[1]
    assert len(site.fleet.sandbox.calls()) == 3


def test_a_new_task_cannot_be_resumed_and_is_not_submitted(site: Site) -> None:
    path = f"{site.url}/networks/{site.network_id}/tasks"
    before = httpx.get(path).json()
    refused = httpx.post(f"{path}/stream", json={"task": "x"}, headers={"Last-Event-ID": "3"})
    assert refused.status_code == 400
    assert httpx.get(path).json() == before
