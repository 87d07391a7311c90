"""One stream: where it begins, what it refuses, how it ends."""

import json
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from mesh.events.types import Complete, Started
from tests.integration.streams.client import Seen, read
from tests.integration.streams.stage import StreamServer, Work, plan, until


@pytest.fixture
def finished(work: Work, task: str) -> str:
    work.run(task, 10)
    return task


def test_a_finished_task_is_replayed_to_its_end(server: StreamServer, finished: str) -> None:
    seen = read(server.events(finished))
    assert seen.numbers == list(range(1, 11))
    assert seen.kinds == ["started", *["plan"] * 8, "complete"]
    assert seen.retries == [2000]


def test_a_stream_resumes_at_any_number(server: StreamServer, finished: str) -> None:
    url = server.events(finished)
    for last in range(10):
        assert read(url, last=last).numbers == list(range(last + 1, 11))
        assert read(f"{url}?last_event_id={last}").numbers == list(range(last + 1, 11))
        assert read(f"{url}?last_event_id=0", last=last).numbers == list(range(last + 1, 11))


def test_past_the_end_there_is_nothing(server: StreamServer, finished: str) -> None:
    for last in ("10", "11", "999999999"):
        assert httpx.get(server.events(finished), headers={"Last-Event-ID": last}).status_code == 204


@pytest.mark.parametrize("last", ["-1", "+1", "x", "1.5", "5.0", "1_0", "5e0", "0x5", "9" * 20, "2147483648", "\u0663"])
def test_what_is_no_number_of_an_event_is_refused(server: StreamServer, finished: str, last: str) -> None:
    url = server.events(finished)
    _assert_refused(httpx.get(url, params={"last_event_id": last}))
    _assert_refused(httpx.get(url, headers={b"Last-Event-ID": last.encode()}))


@pytest.mark.parametrize("last", [" 5", "5 ", ""])
def test_blanks_are_no_part_of_a_number(server: StreamServer, finished: str, last: str) -> None:
    """In a header they are none of its value, and an empty one is what a browser sends that has seen nothing."""
    _assert_refused(httpx.get(server.events(finished), params={"last_event_id": last}))


def test_a_number_that_is_still_to_come_cannot_have_been_seen(server: StreamServer, work: Work, task: str) -> None:
    work.store(task, Started("processing", 1))
    _assert_refused(httpx.get(server.events(task), headers={"Last-Event-ID": "2"}))


def _assert_refused(answer: httpx.Response) -> None:
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "malformed_request"


def test_an_unknown_task_is_404(server: StreamServer) -> None:
    assert httpx.get(server.events("task_unknown")).headers["content-type"] == "application/problem+json"


def test_a_resumed_task_opens_at_its_latest_start(server: StreamServer, work: Work, finished: str) -> None:
    work.store(finished, Started("processing", 2), plan(), Complete("completed"))
    assert read(server.events(finished)).numbers == [11, 12, 13]
    assert read(server.events(finished), last=9).numbers == [10, 11, 12, 13]


def test_the_first_bytes_come_at_once(server: StreamServer, task: str) -> None:
    with httpx.stream("GET", server.events(task), timeout=2) as response:
        assert next(response.iter_raw()) == b"retry: 2000\n: stream\n\n"
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["cache-control"] == "no-cache, no-transform"
        assert response.headers["x-accel-buffering"] == "no"


@pytest.mark.parametrize("wanted", [{"headers": {"Accept": "application/x-ndjson"}}, {"params": {"format": "ndjson"}}])
def test_lines_of_json_carry_the_same_events(
    server: StreamServer, finished: str, wanted: dict[str, dict[str, str]]
) -> None:
    answer = httpx.get(server.events(finished), headers=wanted.get("headers"), params=wanted.get("params"))
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.text.splitlines() if line]
    assert [line["sequence"] for line in lines] == list(range(1, 11))
    assert lines[0]["event"] == "started"


def test_live_events_arrive_within_a_moment(server: StreamServer, work: Work, task: str) -> None:
    url = server.events(task)
    work.happen(task, Started("processing", 1))
    with httpx.stream("GET", url, timeout=5) as response:
        lines = response.iter_lines()
        while next(lines) != "id:1":
            pass
        began = time.monotonic()
        work.happen(task, plan())
        while next(lines) != "id:2":
            pass
        assert time.monotonic() - began < 2  # the next look into the log is much later


def test_the_last_event_arrives_although_nobody_announced_it(restless: StreamServer, work: Work, task: str) -> None:
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(read, restless.events(task))
        work.happen(task, Started("processing", 1))
        work.store(task, Complete("completed"))
        assert reading.result(timeout=10).numbers == [1, 2]


def test_heartbeats_come_until_the_key_is_revoked(restless: StreamServer, task: str) -> None:
    with httpx.stream("GET", restless.events(task), timeout=5) as response:
        lines = response.iter_lines()
        for _ in range(2):
            while next(lines) != ": hb":
                pass
        restless.revoked.touch()
        began = time.monotonic()
        for _ in lines:
            pass
        assert time.monotonic() - began < 2


def test_a_stalled_reader_is_cut_while_others_go_on_and_can_resume(server: StreamServer, work: Work, task: str) -> None:
    url = httpx.URL(server.events(task))
    with socket.create_connection((url.host, url.port or 0)) as stalled, ThreadPoolExecutor() as pool:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)  # else it may grow to megabytes
        stalled.sendall(f"GET {url.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        stalled.recv(1)
        reading = pool.submit(read, str(url))
        work.happen(task, Started("processing", 1))
        for _ in range(500):  # 20 MB, far more than the kernel's buffers take
            work.happen(task, *[plan(8_000)] * 5)
        work.happen(task, Complete("completed"))
        assert reading.result(timeout=30).numbers == list(range(1, 2503))
        received = b""
        stalled.settimeout(10)
        while data := _receive(stalled):
            received += data
    last = int(received.rpartition(b"\nid:")[2].split(b"\n")[0])
    assert last < 2_000
    assert read(str(url), last=last).numbers == list(range(last + 1, 2503))


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except ConnectionResetError:
        return b""


def test_a_server_that_stops_ends_its_streams_cleanly_and_at_once(
    serve: Callable[..., StreamServer], work: Work, task: str
) -> None:
    server = serve()
    work.happen(task, Started("processing", 1))
    everybody = [Seen() for _ in range(50)]
    with ThreadPoolExecutor(50) as pool:
        readings = [pool.submit(read, server.events(task), seen=seen) for seen in everybody]
        until(lambda: all(seen.numbers for seen in everybody))
        server.process.terminate()
        began = time.monotonic()
        for reading in readings:
            reading.result()
        assert time.monotonic() - began < 3
    assert all(seen.numbers == [1] and len(seen.retries) == 2 for seen in everybody)
    assert len({seen.retries[-1] for seen in everybody}) > 25
    assert server.process.wait(timeout=10) == 0
